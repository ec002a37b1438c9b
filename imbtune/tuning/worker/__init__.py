"""What runs in a Ray worker: one trial after another."""
