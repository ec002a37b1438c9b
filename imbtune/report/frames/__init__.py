"""What each figure shows, as plain DataFrames."""
