"""Where images come from: published data sets, and the user's folders, Parquet and .npz files."""
