"""Data sets as uint8 arrays, long-tailed by a profile, split without ever showing a test image."""
