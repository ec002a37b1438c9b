"""What determines one training run: TrainConfig, the slots that it fills, the user's plugins."""
