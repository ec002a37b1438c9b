"""What runs in a Ray worker, which trains one trial after another."""
