"""A study on disk (or in a bucket): typed Parquet rows, W&B. Knows no torch and no Ray."""
