"""A run on several workers is the run of one process: the same batches, gradients and models.

The workers are processes in a gloo group. They compute in float64, where a sum in another order
differs by 1e-14, so that a wrong divisor, partner or statistic cannot hide in rounding.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo_group import CPU, float64, in_group
from numpy.typing import NDArray
from short_runs import epochs_of, everything, make_config, preset_config
from small_data import make_splits
from torch import nn

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.models.networks import Backbone, models
from imbtune.spaces.presets import PRESETS
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.distributed.global_batch_norm import GlobalBatchNorm, use_global_batch_norm
from imbtune.training.distributed.workers import Workers
from imbtune.training.loop import train_epoch
from imbtune.training.state import TrainState

Array = NDArray[Any]
COUNTS = [60, 20, 6, 1]  # the last class has one image: a batch has it on one worker at most
BATCH = 31  # 15 samples on one of two workers, 16 on the other
BY_FEATURES = {"mix": "any_class_knn+linear+margin_aware", "mix.space": "features"}
OTHERS: dict[str, dict[str, Any]] = {  # what no preset has
    "neighbours by features": BY_FEATURES,
    "adamw": {"optimizer": "adamw"},
    "the data set as one batch": {"batch_size": 500, "mix": "cutmix"},
}


def configs(epochs: int) -> dict[str, TrainConfig]:
    """All presets, those of weighted losses with the weights from the start, and others."""
    found = {name: preset_config(name, epochs=epochs, seed=2) for name in PRESETS}
    for name, settings in OTHERS.items():
        changes = {key.replace(".", "__"): value for key, value in settings.items()}
        found[name] = make_config(**({"batch_size": BATCH, "epochs": epochs} | changes))
    return {
        name: config if config.batch_size > BATCH else config.replace(batch_size=BATCH)
        for name, config in found.items()
    }


def trained_by(workers: Workers, epochs: int) -> dict[str, tuple[list[float], list[Array], Array]]:
    """For every configuration: the loss of each epoch, everything of the state, its predictions."""
    found = {}
    for name, config in configs(epochs).items():
        data = DeviceData(make_splits(COUNTS), CPU, workers)
        state = TrainState(config, data)
        losses = [train_epoch(state, data, epoch).loss for epoch in epochs_of(config)]
        apply_posthoc(state, data, config.epochs)
        kept = [tensor.numpy() for tensor in everything(state)]
        found[name] = (losses, [*kept, np.array(state.passes)], state.evaluate(data))
    return found


def check_same_training(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, (losses, kept, confusion_KK) in wanted.items():
        np.testing.assert_allclose(found[name][0], losses, rtol=1e-11, err_msg=name)
        for mine, values in zip(found[name][1], kept, strict=True):
            np.testing.assert_allclose(mine, values, rtol=1e-9, atol=1e-11, err_msg=name)
        np.testing.assert_array_equal(found[name][2], confusion_KK, err_msg=name)


def test_every_preset_takes_the_steps_of_one_process(members: list[dict[str, Any]]) -> None:
    """One epoch of three steps: the cool-down, with its weights, and the second stage."""
    with float64():
        alone = trained_by(Workers(), 1)
    for member in members:
        check_same_training(member["trained"], alone)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_preset_trains_the_model_of_one_process(size: int, tmp_path: Path) -> None:
    with float64():
        alone = trained_by(Workers(), 3)
    for member in in_group(size, tmp_path / "group", functools.partial(trained_by, epochs=3)):
        check_same_training(member, alone)


# ---- batch norm -------------------------------------------------------------------------------

IMAGES = torch.from_numpy(np.random.default_rng(0).normal(2, 3, (9, 3, 4, 4)))
LAYERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cumulative": {"momentum": None},
    "without weights": {"affine": False},
    "without statistics": {"track_running_stats": False},
}


def normalised_by(workers: Workers) -> dict[str, list[Array]]:
    """Outputs, gradients and statistics after two batches of each layer; all of the batch."""
    found = {}
    for name, options in LAYERS.items():
        model = nn.Sequential(nn.BatchNorm2d(3, **options).double())
        use_global_batch_norm(model, workers, CPU)
        part = workers.part(len(IMAGES))
        for scale in (1.0, 2.0):
            model.zero_grad()
            images = (IMAGES[part] * scale).requires_grad_()
            made = model(images)
            (made * made.detach().roll(1, 1)).sum().backward()
            workers.sum([w.grad for w in model.parameters() if w.grad is not None])
        assert images.grad is not None
        whole = [torch.zeros_like(IMAGES), torch.zeros_like(IMAGES)]
        whole[0][part], whole[1][part] = made.detach(), images.grad
        workers.sum(whole)
        slopes = [w.grad for w in model.parameters() if w.grad is not None]
        shown = model.eval()(IMAGES).detach()
        found[name] = [t.numpy() for t in (*whole, *slopes, *model.buffers(), shown)]
        assert isinstance(model[0], GlobalBatchNorm) == (workers.size > 1)
    return found


def test_batch_norm_is_that_of_the_whole_batch(members: list[dict[str, Any]]) -> None:
    alone = normalised_by(Workers())
    for member in members:
        for name, wanted in alone.items():
            for mine, values in zip(member["normalised"][name], wanted, strict=True):
                np.testing.assert_allclose(mine, values, rtol=1e-10, atol=1e-12, err_msg=name)


# ---- random numbers and the weights' check ----------------------------------------------------


def drawn_by(workers: Workers) -> tuple[Array, str]:
    """The dropout mask of the first step, and what the check of unequal weights says."""
    seen = []

    @models.register("my_dropout", help="for this test")
    def my_dropout(channels: int) -> Backbone:
        dropout = nn.Dropout(0.5)
        dropout.register_forward_hook(lambda _, __, out: seen.append((out != 0).numpy()))
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.Sigmoid(), dropout]
        return Backbone(nn.Sequential(*layers), 16)

    config = make_config(model="my_dropout", batch_size=30, epochs=1)
    data = DeviceData(make_splits(COUNTS), CPU, workers)
    state = TrainState(config, data)
    train_epoch(state, data, epochs_of(config)[0])
    weights = [torch.ones(3) + 0.1 * workers.rank]
    try:
        workers.check_same_weights(weights)
    except ConfigError as error:
        return seen[0], str(error)
    return seen[0], ""


def test_dropout_differs_between_workers(members: list[dict[str, Any]]) -> None:
    first, second = (member["drawn"][0] for member in members)
    assert first.shape == second.shape == (15, 16)
    assert not np.array_equal(first, second)


def test_weights_that_differ_are_found(members: list[dict[str, Any]]) -> None:
    lines = {member["drawn"][1] for member in members}
    assert len(lines) == 1
    assert "the weights of the workers differ after an epoch" in lines.pop()


# ---- all of it in one group, since processes take seconds to start -------------------------------


def all_by(workers: Workers) -> dict[str, Any]:
    return {
        "trained": trained_by(workers, 1),
        "normalised": normalised_by(workers),
        "drawn": drawn_by(workers),
    }


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two workers finds."""
    return in_group(2, tmp_path_factory.mktemp("workers") / "group", all_by)
