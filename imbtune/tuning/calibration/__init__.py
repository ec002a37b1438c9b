"""Do a space's rungs predict the finished model? The runs, the statistics, and their use."""
