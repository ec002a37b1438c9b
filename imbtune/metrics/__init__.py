"""Metrics: what a model's predictions of labelled images are worth; one is a search's objective."""

# Importing them registers the metrics, in the order of the tables whichever module is asked for.
from imbtune.metrics import from_confusion as from_confusion
from imbtune.metrics import from_probabilities as from_probabilities
