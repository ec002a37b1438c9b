"""Training, evaluation, and the path of a trial through its rungs. Knows no Ray, W&B or files."""
