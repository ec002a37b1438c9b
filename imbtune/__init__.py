"""imbtune: distributed hyperparameter search for deep imbalanced classification."""

__version__ = "0.1.0"
