"""Mixing = pairing × blend × label rule: three choices that make one mix."""
