"""Scores of a model: the confusion matrix, the metrics, and the margins."""
