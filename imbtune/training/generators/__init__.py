"""Generators of training images for the rare classes: DeepSMOTE and M2m."""
