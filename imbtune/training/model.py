"""The network of a configuration."""

from __future__ import annotations

from imbtune.config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.models.networks import Classifier, build_model, check_model


def new_model(config: TrainConfig, channels: int, classes: int) -> Classifier:
    """The network for images of `channels` and `classes`; its weights come from torch's seed."""
    return build_model(config.model.name, config.model.knobs, config.loss_head, channels, classes)


def try_model(config: TrainConfig, splits: Splits) -> None:
    """ConfigError where the network cannot take the images of `splits`."""
    shape = splits.train.pixels.shape[1:]
    check_model(new_model(config, shape[0], len(splits.classes)), config.model.name, shape)
