"""Predictions of image files, in a table."""
