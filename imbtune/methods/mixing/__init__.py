"""Mixing = pairing × blend × label rule."""
