"""Connects to Ray, and plans the CPUs and GPUs of each trial."""
