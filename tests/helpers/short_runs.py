"""Training runs of a second or less, for the tests of the training layer."""

from __future__ import annotations

from typing import Any

import torch
from small_data import make_splits
from torch import Tensor

from imbtune.config.train_config import TrainConfig, active
from imbtune.spaces.presets import find_preset
from imbtune.training.device.device_data import DeviceData
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.loop import LocatedImages, batches, train_epoch
from imbtune.training.phases import Epoch, whole_run
from imbtune.training.state import TrainState
from imbtune.training.step import Batch

CPU = torch.device("cpu")
DATA = DeviceData(make_splits([60, 20, 6, 1]), CPU)  # 87 images, 8×8 grey: 3 steps of 30

# Helper networks as small as they come, for presets that need one
CHEAP: dict[str, dict[str, Any]] = {
    "deepsmote": {"generate.latent": 4, "generate.width": 2, "generate.epochs": 1},
    "m2m": {"generate.share": 0.5, "generate.steps": 1, "generate.gamma": 0.0},
}


def make_config(**changes: Any) -> TrainConfig:
    """Knobs with `__` for the dot."""
    small = {"model.width": 4} if "model" not in changes else {}
    plain = {"batch_size": 30, "epochs": 5, "precision": "float32"} | small
    return TrainConfig.from_settings(plain | {k.replace("__", "."): v for k, v in changes.items()})


def preset_config(name: str, **changes: Any) -> TrainConfig:
    """A preset in small; of `changes`, those that it has."""
    settings = find_preset(name).settings
    small = CHEAP.get(str(settings["generate"]), {}) | {"model.width": 4, "after.share": 0.25}
    wanted = {k.replace("__", "."): v for k, v in changes.items()}
    chosen = active({**settings, **small, **wanted})
    return make_config(**{k.replace(".", "__"): v for k, v in chosen.items()})


def epochs_of(config: TrainConfig) -> list[Epoch]:
    return whole_run(config.epochs, config.schedule.shared)


def train(state: TrainState, epochs: list[Epoch], data: DeviceData = DATA) -> list[float]:
    """The mean loss of each epoch."""
    return [train_epoch(state, data, epoch).loss for epoch in epochs]


def trained(config: TrainConfig, data: DeviceData = DATA) -> TrainState:
    state = TrainState(config, data)
    train(state, epochs_of(config), data)
    return state


def plan_of(state: TrainState, epoch: Epoch, data: DeviceData = DATA) -> EpochPlan:
    """The draws of an epoch without generated images, as `train_epoch` has them."""
    return draw_epoch(state.methods, data, LocatedImages(state, data), epoch)


def first_batch(state: TrainState, epoch: Epoch, data: DeviceData = DATA) -> Batch:
    return next(batches(state, data, plan_of(state, epoch, data)))


def everything(state: TrainState) -> list[Tensor]:
    """Weights, batch-norm statistics, and what the optimiser remembers."""
    kept = [tensor.clone() for tensor in state.model.state_dict().values()]
    for group in state.optimizer.param_groups:
        for weight in group["params"]:
            memory = state.optimizer.state[weight].values()
            kept += [value.clone() for value in memory if isinstance(value, Tensor)]
    return kept


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """To the last bit."""
    return len(one) == len(other) and all(
        torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def raw_logits(state: TrainState, images_BCHW: Tensor) -> Tensor:
    """Logits (B, K) in evaluation mode; the model's own mode stays."""
    was = state.model.training
    state.model.eval()
    with torch.no_grad():
        logits_BK = state.logits(images_BCHW)
    state.model.train(was)
    return logits_BK
