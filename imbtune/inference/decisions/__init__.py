"""From logits to probabilities and classes: class prior, threshold."""
