"""`imbtune compare`: presets and studies' winners, trained and tested with the same seeds."""
