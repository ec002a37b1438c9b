"""Metrics: what a model's predictions of labelled images are worth; one is a search's objective."""
