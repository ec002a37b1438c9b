"""The search: a space, rungs, an Optuna sampler and Ray Tune. The only part that imports Ray."""
