"""The data sets: published ones, and the user's folders, Parquet files and .npz files."""
