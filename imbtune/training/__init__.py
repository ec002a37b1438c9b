"""Training and evaluation of runs and of trials at their rungs.

Imports no Ray, Optuna or W&B, and reads and writes no files.
"""
