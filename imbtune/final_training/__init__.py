"""The final training: all training data, tested once per seed."""
