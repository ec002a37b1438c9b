"""The commands that use a trained model: predict, evaluate, threshold, export."""
