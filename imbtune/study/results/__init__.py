"""What calibrations and comparisons have found: their records, tables, tests, published figures."""
