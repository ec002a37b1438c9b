"""Evaluation of a model: confusion matrix, metrics, margins."""
