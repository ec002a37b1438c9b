"""A study's Parquet tables, their columns, and the same rows in W&B."""
