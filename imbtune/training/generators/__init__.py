"""Generated training images: DeepSMOTE and M2m."""
