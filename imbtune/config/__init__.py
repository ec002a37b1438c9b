"""The configuration of one training run: TrainConfig, its slots, and plugins with more parts."""
