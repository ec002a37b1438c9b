"""Statistics of the finals: what seeds and images do to a mean, and inference after selection."""
