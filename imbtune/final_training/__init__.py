"""The final training: all training data, tested once per seed; and a trained model in use."""
