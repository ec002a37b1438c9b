"""Building the network of a configuration, and context managers for its modes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.models.networks import Classifier, build_model, check_model


def new_model(config: TrainConfig, channels: int, classes: int) -> Classifier:
    """Build the network; its initial weights are drawn from torch's global generator.

    Args:
        config: names the network, its knobs and the head that its loss requires.
        channels: of the input images.
        classes: number of logits.
    """
    return build_model(config.model.name, config.model.knobs, config.loss_head, channels, classes)


def check_model_fits(config: TrainConfig, splits: Splits) -> None:
    """Check that the network accepts images of the data's size.

    Raises:
        ConfigError: it does not.
    """
    shape = splits.train.pixels.shape[1:]
    check_model(new_model(config, shape[0], len(splits.classes)), config.model.name, shape)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode; on exit restore each layer's previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def freeze_running_statistics(model: nn.Module) -> Iterator[None]:
    """Let batch norm normalise with the batch's statistics without updating its running ones.

    The model must be in training mode.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
