"""Trials run by Ray Tune: what is suggested, what happens to it, and what a failure means."""
