"""Whether a user's network and loss treat the samples of a batch one by one.

A worker sees its part of a batch. What mixes the samples of a batch, other than torch's batch norm,
would compute something else there than in one process.

Shapes: B samples of a batch, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError
from imbtune.methods.losses import MarginSoftmax
from imbtune.training.model import new_model

BATCH, PART = 4, 2
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # replaced by ones over all workers


def check_per_sample(config: TrainConfig, splits: Splits) -> None:
    """Check that parts of the user's can be computed on parts of a batch.

    Raises:
        ConfigError: the network or the loss depends on the other samples of the batch.
    """
    with torch.random.fork_rng(devices=[]):
        if not config.model.part.is_builtin:
            _check_network(config, splits)
        if not config.loss.part.is_builtin:
            _check_loss(config, splits)


def _check_network(config: TrainConfig, splits: Splits) -> None:
    shape = splits.train.pixels.shape[1:]
    model = new_model(config, shape[0], len(splits.classes)).train()
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            if type(layer) not in BATCH_NORMS:
                raise _refused("model", config.model.name, f" (its {type(layer).__name__})")
            layer.eval()
    images_BCHW = torch.randn(BATCH, *shape)
    if not torch.equal(_seeded(model, images_BCHW, 0), _seeded(model, images_BCHW, 1)):
        model.eval()  # with dropout, two passes differ anyway
    of_batch, of_part = copy.deepcopy(model), copy.deepcopy(model)
    logits_BK = _seeded(of_batch, images_BCHW, 0)
    same = torch.allclose(
        logits_BK[:PART], _seeded(of_part, images_BCHW[:PART], 0), rtol=1e-3, atol=1e-5
    )
    buffers = zip(of_batch.buffers(), of_part.buffers(), strict=True)
    if not same or not all(torch.allclose(a.float(), b.float()) for a, b in buffers):
        raise _refused("model", config.model.name)


def _check_loss(config: TrainConfig, splits: Splits) -> None:
    classes = len(splits.classes)
    loss = config.loss.make(torch.from_numpy(splits.counts()).float())
    if isinstance(loss, MarginSoftmax):
        return
    logits_BK, labels_B = torch.randn(BATCH, classes), torch.arange(BATCH) % classes
    of_batch_B = loss(logits_BK, labels_B)
    of_part_B = loss(logits_BK[:PART], labels_B[:PART])
    if not torch.allclose(of_batch_B[:PART], of_part_B, rtol=1e-3, atol=1e-5):
        raise _refused("loss", config.loss.name)


def _seeded(model: Callable[[Tensor], Tensor], images_BCHW: Tensor, seed: int) -> Tensor:
    torch.default_generator.manual_seed(seed)
    with torch.no_grad():
        return model(images_BCHW)


def _refused(slot: str, name: str, what: str = "") -> ConfigError:
    return ConfigError(
        f"{slot} '{name}'{what} depends on the other samples of a batch, of which each worker has "
        "a part: train without --workers"
    )
