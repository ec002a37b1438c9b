"""Networks: a backbone that gives features, and a head that gives logits."""
