"""A study on disk: its options, journal, records, files and tables."""
