"""The network of a configuration, and the modes that it runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.models.networks import Classifier, build_model, check_model


def new_model(config: TrainConfig, channels: int, classes: int) -> Classifier:
    """The network for images of `channels` and `classes`; its weights come from torch's seed."""
    return build_model(config.model.name, config.model.knobs, config.loss_head, channels, classes)


def check_model_fits(config: TrainConfig, splits: Splits) -> None:
    """ConfigError where the network cannot take the images of `splits`."""
    shape = splits.train.pixels.shape[1:]
    check_model(new_model(config, shape[0], len(splits.classes)), config.model.name, shape)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every layer is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norm uses the batch's statistics as in training, and its running ones stay."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
