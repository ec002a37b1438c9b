"""A trained model in use: its folder, loading it, its predictions, their calibration."""
