"""Where a plan's figures come from: the machines, and how fast a trial trains on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, StudyError
from imbtune.storage import Store
from imbtune.study.files import read_study
from imbtune.study.request import AUTO, SearchRequest
from imbtune.training.cost.timing import Speed, measure_speed
from imbtune.tuning.cluster.connection import local_node
from imbtune.tuning.cluster.resources import (
    SHARE,
    Node,
    Resources,
    check_gpu_fraction,
    on_gpus,
    plan_resources,
)
from imbtune.tuning.forecast.first_configs import draw_configs
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.session import load_search_splits

PRESETS, RANDOM = 2, 4  # configurations that are measured: the first ones of the search


@dataclass(frozen=True)
class Fleet:
    """All that is planned with: GPUs in all, 0 for none; CPUs in all; and what a trial gets."""

    gpus: int
    cpus: int
    trial: Resources

    @property
    def unit(self) -> str:
        """What is paid for by the hour."""
        return "GPU" if self.gpus else "CPU"

    @property
    def units(self) -> int:
        return self.gpus or self.cpus

    @property
    def units_per_trial(self) -> float:
        return self.trial.gpus if self.gpus else self.trial.cpus


@dataclass(frozen=True)
class TrialSpeed:
    """How fast trials train there, beside one another; the training images of each class (K,), and
    how many are held out. source: where the speed is from, in words."""

    speed: Speed
    counts_K: NDArray[np.int64]
    held_out: int
    source: str


def find_trial_speed(
    request: SearchRequest, gpus: int | None, cpus: int | None, study: str | None
) -> tuple[Fleet, TrialSpeed]:
    """The machines, and the speed there: measured on this one, or a study's.

    Args:
        gpus: GPUs in all. Without `gpus` and `cpus`, this machine's, or as many as the study had.
        cpus: CPUs in all.
        study: folder or URI of one whose trials' speed is taken.

    Raises:
        ConfigError: no machine that a trial fits, or no way to know its speed there.
        StudyError: no study there, or one without a trial.
    """
    register(request.space.imports)
    if request.gpus_per_trial == AUTO:
        raise ConfigError(
            "--gpus-per-trial auto: only a search measures that: give 1/n, or leave it out"
        )
    check_gpu_fraction(request.share or 0)
    make_sampler(request.sampler, request.seed)
    if study:
        return _of_study(request, gpus, cpus, study)
    fleet = _fleet(request, gpus, cpus, local_node())
    _check_measurable(fleet, local_node())
    space = request.space
    splits = load_search_splits(space.base(), request.data_source(), space.plugin_parts())
    device = torch.device("cuda" if fleet.trial.gpus else "cpu")
    speed = measure_speed(sample(request), splits, device, fleet.trial.cpus)
    share = fleet.trial.gpus  # trials that share a GPU are taken as no faster together
    together = min(on_gpus(Node(0, 1), share), fleet.trial.concurrent) if 0 < share < 1 else 1
    return fleet, TrialSpeed(
        speed.shared(together), splits.counts(), len(splits.held_out), "measured on this machine"
    )


def _fleet(request: SearchRequest, gpus: int | None, cpus: int | None, here: Node) -> Fleet:
    """What is given, or this machine; CPUs beside given GPUs as many as their trials need."""
    if gpus is None and cpus is None:
        gpus, cpus = here.gpus, here.cpus
    share = SHARE if request.share is None else request.share
    if gpus and not share:
        raise ConfigError(f"--gpus {gpus} with --gpus-per-trial 0: leave one of them out")
    if gpus and cpus is None:
        cpus = max(1, on_gpus(Node(0, gpus), share)) * (request.cpus_per_trial or 1)
    node = Node(cpus or 0, gpus or 0)
    trial = plan_resources(
        [node],
        request.trials,
        request.cpus_per_trial,
        request.share,
        request.max_concurrent,
    )
    return Fleet(node.gpus if trial.gpus else 0, node.cpus, trial)


def _check_measurable(fleet: Fleet, here: Node) -> None:
    """ConfigError where this machine cannot show how fast a trial is on those."""
    mend = "give --study STUDY, one that ran on such machines, and its speed is taken"
    if fleet.trial.gpus and not here.gpus:
        raise ConfigError(f"--gpus {fleet.gpus}: this machine has no GPU to measure on: {mend}")
    if fleet.trial.cpus > here.cpus and not fleet.trial.gpus:
        raise ConfigError(
            f"--cpus-per-trial {fleet.trial.cpus}: this machine has {here.cpus} to measure on: "
            f"{mend}"
        )


def sample(request: SearchRequest) -> list[TrainConfig]:
    """The first presets and random configurations of a search, to be measured."""
    space = request.space
    trials = len(space.presets()) + RANDOM * space.late_variants
    drawn = draw_configs(replace(request, trials=trials))
    presets = [variants[0] for preset, variants in drawn if preset][:PRESETS]
    return presets + [variants[0] for preset, variants in drawn if not preset]


def _of_study(
    request: SearchRequest, gpus: int | None, cpus: int | None, path: str
) -> tuple[Fleet, TrialSpeed]:
    before, content = read_study(path)
    _check_alike(request, before, path)
    had = Resources(**content["resources"])
    for option, asked, there in (
        ("--gpus-per-trial", request.share, had.gpus),
        ("--cpus-per-trial", request.cpus_per_trial, had.cpus),
    ):
        if asked not in (None, there):
            raise ConfigError(f"{option} {asked:g}: a trial of {path} had {there:g}: leave it out")
    if bool(gpus) != bool(had.gpus) and (gpus or cpus):
        ran = "GPUs: give --gpus" if had.gpus else "CPUs alone: give --cpus"
        raise ConfigError(f"{path} ran on {ran}, or another --study")
    if gpus is None and cpus is None:
        gpus, cpus = math.ceil(had.gpus * had.concurrent) or None, had.cpus * had.concurrent
    request = replace(request, gpus_per_trial=had.gpus, cpus_per_trial=had.cpus)
    fleet = _fleet(request, gpus, cpus, Node(0, 0))
    data = content["data"]
    counts_K = np.array(data["counts"], dtype=np.int64)
    speed = _recorded_speed(Store(path))
    return fleet, TrialSpeed(speed, counts_K, int(data["validation"]), f"as in {path}")


def _check_alike(request: SearchRequest, before: SearchRequest, path: str) -> None:
    """ConfigError where a study says nothing of this search's speed or number of images."""
    mine, its = _compared(request), _compared(before)
    for key in [*mine, *its]:
        if mine.get(key) != its.get(key):
            raise ConfigError(
                f"--study {path} has {key}={its.get(key)}, this search {mine.get(key)}: give one "
                "with the same data and network"
            )


def _compared(request: SearchRequest) -> Mapping[str, Any]:
    flat = request.space.base().flat()
    slots = ("data", "model", "batch_size", "precision")
    return {key: value for key, value in flat.items() if key.partition(".")[0] in slots}


def _recorded_speed(store: Store) -> Speed:
    """Of all trials of a study, evaluations included: those that were longer count more."""
    rows = store.table("trials").select(["images", "seconds"]) if store.exists("trials") else None
    known = rows.filter(pc.greater(rows["images"], 0)) if rows else rows
    if not known:
        raise StudyError(f"{store.path} has no trial that trained: give another --study")
    images, seconds = (known[name].to_numpy() for name in ("images", "seconds"))
    each = seconds / images
    return Speed(float(seconds.sum() / images.sum()), float(each.min()), float(each.max()))
