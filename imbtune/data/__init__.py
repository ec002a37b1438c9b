"""Data sets as uint8 arrays, their imbalance profiles, and their splits."""
