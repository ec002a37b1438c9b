"""A study's Parquet tables, their columns, and SQL over them."""
