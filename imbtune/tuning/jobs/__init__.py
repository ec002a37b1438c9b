"""Searches on a Ray cluster, sent there and followed from another machine through its Jobs API."""
