"""A study on disk: what was asked for, its records, its files and its tables."""
