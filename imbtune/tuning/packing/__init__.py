"""Experimental and off: several trials in one process."""
