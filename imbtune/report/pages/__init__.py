"""The pages as HTML: of one study, several, a comparison, a calibration."""
