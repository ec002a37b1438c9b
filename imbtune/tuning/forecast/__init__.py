"""Forecasts a search: speed of a trial, simulated time, and how many trials share a GPU."""
