"""What several workers cannot train is refused in one line, before Ray starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import invoke
from data_files import raises_one_line
from short_runs import make_config
from small_data import make_splits
from torch import Tensor, nn

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ClusterError, ConfigError, ImbtuneError
from imbtune.final_training.final_task import FinalTask
from imbtune.methods.losses import LossFunction, losses
from imbtune.models.networks import Backbone, models
from imbtune.parallel_training.run_workers import WorkerGroup
from imbtune.training.distributed.per_sample import check_per_sample

SPLITS = make_splits([60, 20, 6, 1])
MANY = len(os.sched_getaffinity(0)) * 100


@pytest.mark.parametrize(
    ("options", "kind", "line"),
    [
        ({"workers": 0}, ConfigError, "--workers 0: give a whole number from 1 on"),
        ({"workers": 2.0}, ConfigError, "--workers 2.0: give a whole number from 1 on"),
        ({"workers": True}, ConfigError, "--workers True: give a whole number from 1 on"),
        ({"workers": MANY}, ConfigError, f"--workers {MANY}: this machine has room for "),
        ({"address": "auto"}, ConfigError, "--address auto goes with --workers"),
        ({"workers": 1, "address": ""}, ConfigError, "--address '': it is empty"),
        ({"workers": 1, "address": 5}, ConfigError, "--address 5: give auto or HEAD:6379"),
        ({"workers": 1, "address": "ray://head:1"}, ClusterError, "--address ray://head:1: "),
    ],
)
def test_from_python(
    options: dict[str, Any], kind: type[ImbtuneError], line: str, tmp_path: Path
) -> None:
    with raises_one_line(line, kind=kind):
        imbtune.train(make_config(), out=tmp_path / "out", progress=None, **options)
    assert not (tmp_path / "out").exists()


def test_the_command_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train = ("train", "--preset", "erm", "--space", "digits-lt", "--out", "out")
    code, _, error = invoke(*train, "--workers", str(MANY))
    assert (code, error.count("\n")) == (2, 1) and error.startswith(f"error: --workers {MANY}: ")
    code, _, error = invoke(*train, "--address", "auto")
    assert (code, error.count("\n")) == (2, 1) and "goes with --workers" in error
    code, _, error = invoke("train", "--trial", "runs/none", "3", "--workers", "1")
    assert code == 2 and error.endswith("did: leave --workers out\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["ray", "ray.train"])
def test_without_ray(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("imbtune.parallel_training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(imbtune, "parallel_training", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with raises_one_line("--workers 1 needs Ray Train", "pip install", kind=ConfigError):
        imbtune.train(make_config(), workers=1, progress=None)


@pytest.mark.parametrize(("batch_size", "least"), [(8, 8), (500, 87)])
def test_more_workers_than_images_of_a_batch(batch_size: int, least: int) -> None:
    config = make_config(batch_size=batch_size)
    line = f"--workers {least + 1}: a batch has {least} images: give at most {least}"
    task = FinalTask(Path("out"), config, 1, SPLITS)
    with raises_one_line(line, kind=ConfigError), WorkerGroup(least + 1)(task):
        pass


# ---- parts of the user's that mix the samples of a batch --------------------------------------


class OwnBatchNorm(nn.BatchNorm2d):
    """The batch's mean without its variance."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((0, 2, 3), keepdim=True)


class Ranked(nn.Module):
    """The rank of each value among those of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.argsort(0).float()


class Tracking(nn.Module):
    """Keeps a running mean of the batches."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.lerp_(x.detach().mean(), 0.1)
        return x


REFUSED = {"own batch norm": OwnBatchNorm(1), "ranks": Ranked(), "running mean": Tracking()}
TAKEN = {
    "batch norm": nn.BatchNorm2d(1),
    "dropout": nn.Dropout(0.5),
    "group norm": nn.GroupNorm(1, 1),
    "instance norm": nn.InstanceNorm2d(1),
}


@pytest.fixture
def network_with() -> Iterator[Callable[[nn.Module], TrainConfig]]:
    def config_with(layer: nn.Module) -> TrainConfig:
        @models.register("my_network", help="for this test")
        def my_network(channels: int) -> Backbone:
            pool = nn.AdaptiveAvgPool2d(2)
            return Backbone(nn.Sequential(layer, pool, nn.Flatten()), 4 * channels)

        return make_config(model="my_network")

    yield config_with
    models.remove("my_network")


@pytest.mark.parametrize("layer", REFUSED.values(), ids=REFUSED)
def test_networks_that_mix_samples(
    layer: nn.Module, network_with: Callable[[nn.Module], TrainConfig]
) -> None:
    with raises_one_line("model 'my_network'", "train without --workers", kind=ConfigError):
        check_per_sample(network_with(layer), SPLITS)


@pytest.mark.parametrize("layer", TAKEN.values(), ids=TAKEN)
def test_networks_that_do_not(
    layer: nn.Module, network_with: Callable[[nn.Module], TrainConfig]
) -> None:
    state = torch.get_rng_state()
    check_per_sample(network_with(layer), SPLITS)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mixes", [False, True])
def test_losses(mixes: bool) -> None:
    @losses.register("my_loss", help="for this test")
    def my_loss(counts_K: Tensor) -> LossFunction:
        def loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
            loss_B = torch.nn.functional.cross_entropy(logits_BK, labels_B, reduction="none")
            return loss_B / loss_B.mean() if mixes else loss_B

        return loss

    try:
        config = make_config(loss="my_loss")
        if mixes:
            with raises_one_line("loss 'my_loss' depends on the other", kind=ConfigError):
                check_per_sample(config, SPLITS)
        else:
            check_per_sample(config, SPLITS)
    finally:
        losses.remove("my_loss")
