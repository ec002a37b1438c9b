"""What other programs show of a study while it runs: W&B, TensorBoard and MLflow."""
