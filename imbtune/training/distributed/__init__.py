"""Data-parallel training: several processes train one run, each on a part of every batch."""
