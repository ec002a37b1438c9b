"""Determines the machines of a forecast, and how fast a trial trains on them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig, active, flatten
from imbtune.errors import ConfigError, StudyError
from imbtune.storage import Store, join
from imbtune.storage.damage import damage_explained
from imbtune.study.data_size import data_size_lines
from imbtune.study.files import FILE, read_content
from imbtune.study.request import AUTO, SearchRequest
from imbtune.study.tables.own_files import own_table
from imbtune.training.cost.timing import Speed, measure_speed
from imbtune.tuning.cluster.connection import local_node
from imbtune.tuning.cluster.resources import (
    DEFAULT_SHARE,
    Node,
    Resources,
    check_gpu_fraction,
    on_gpus,
    plan_resources,
)
from imbtune.tuning.forecast.first_configs import draw_configs
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.session import check_objectives, load_search_splits, size_lines

PRESETS, RANDOM = 2, 4  # how many presets and random configurations are measured


@dataclass(frozen=True)
class Fleet:
    """The machines of a forecast.

    Attributes:
        gpus: in total; 0 where trials train on CPUs.
        cpus: in total.
        trial: what each trial gets.
    """

    gpus: int
    cpus: int
    trial: Resources

    @property
    def unit(self) -> str:
        """The unit of cost, `GPU` or `CPU`: machines are rented per GPU hour or per CPU hour."""
        return "GPU" if self.gpus else "CPU"

    @property
    def units(self) -> int:
        """How many GPUs, or without GPUs how many CPUs, there are in total."""
        return self.gpus or self.cpus

    @property
    def units_per_trial(self) -> float:
        """How many of these GPUs or CPUs each trial gets."""
        return self.trial.gpus if self.gpus else self.trial.cpus


@dataclass(frozen=True)
class TrialSpeed:
    """How fast trials train.

    Attributes:
        speed: of a trial, with the other trials of the search running.
        counts_K: training images of each class (K,).
        held_out: number of validation images.
        source: where the speed comes from, in words.
        size_lines: what a user should know of the size of the data; empty for a study that did not
            record its validation images by class.
    """

    speed: Speed
    counts_K: NDArray[np.int64]
    held_out: int
    source: str
    size_lines: Sequence[str] = ()


def find_trial_speed(
    request: SearchRequest, gpus: int | None, cpus: int | None, study: str | None
) -> tuple[Fleet, TrialSpeed]:
    """Determine the machines, and the speed of a trial on them.

    Args:
        gpus: in total. Without `gpus` and `cpus`: this machine's, or as many as the study used.
        cpus: in total.
        study: folder or URI of a study whose recorded speed is used; None to measure it here.

    Raises:
        ConfigError: a trial does not fit on any machine, or its speed cannot be determined.
        StudyError: there is no such study, or it has no trial.
    """
    register(request.space.imports)
    if request.gpus_per_trial == AUTO:
        raise ConfigError(
            "--gpus-per-trial auto cannot be forecast, only a search measures it: give 1/n, or "
            "leave it out"
        )
    check_gpu_fraction(request.share or 0)
    make_sampler(request.sampler, request.seed)
    if study:
        return _speed_of_study(request, gpus, cpus, study)
    fleet = _fleet(request, gpus, cpus, local_node())
    _check_measurable(fleet, local_node())
    space = request.space
    splits = load_search_splits(space.base(), request.data_source(), space.plugin_parts())
    check_objectives(request, splits)
    device = torch.device("cuda" if fleet.trial.gpus else "cpu")
    speed = measure_speed(sample(request), splits, device, fleet.trial.cpus)
    share = fleet.trial.gpus  # assume that sharing a GPU makes trials no faster in total
    together = min(on_gpus(Node(0, 1), share), fleet.trial.concurrent) if 0 < share < 1 else 1
    return fleet, TrialSpeed(
        speed.shared(together),
        splits.counts(),
        len(splits.held_out),
        "measured on this machine",
        size_lines(request, splits),
    )


def _fleet(request: SearchRequest, gpus: int | None, cpus: int | None, here: Node) -> Fleet:
    """The given machines, or this one. If only `gpus` is given, CPUs are as many as needed."""
    if gpus is None and cpus is None:
        gpus, cpus = here.gpus, here.cpus
    share = DEFAULT_SHARE if request.share is None else request.share
    if gpus and not share:
        raise ConfigError(
            f"--gpus {gpus} and --gpus-per-trial 0 contradict each other: leave one of them out"
        )
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
    """Raise ConfigError if the speed on the given machines cannot be measured on this one."""
    fix = "give --study STUDY to use the speed of a study that ran on such machines"
    if fleet.trial.gpus and not here.gpus:
        raise ConfigError(f"--gpus {fleet.gpus}: this machine has no GPU to measure on: {fix}")
    if fleet.trial.cpus > here.cpus and not fleet.trial.gpus:
        raise ConfigError(
            f"--cpus-per-trial {fleet.trial.cpus}: this machine has {here.cpus} to measure on: "
            f"{fix}"
        )


def sample(request: SearchRequest) -> list[TrainConfig]:
    """The configurations whose speed is measured: the search's first presets and random ones."""
    space = request.space
    trials = len(space.presets()) + RANDOM * space.late_variants
    drawn = draw_configs(replace(request, trials=trials))
    presets = [variants[0] for preset, variants in drawn if preset][:PRESETS]
    return presets + [variants[0] for preset, variants in drawn if not preset]


def _speed_of_study(
    request: SearchRequest, gpus: int | None, cpus: int | None, path: str
) -> tuple[Fleet, TrialSpeed]:
    content = read_content(path)
    with damage_explained(path, FILE):
        return _recorded(request, gpus, cpus, path, content)


def _recorded(
    request: SearchRequest,
    gpus: int | None,
    cpus: int | None,
    path: str,
    content: Mapping[str, Any],
) -> tuple[Fleet, TrialSpeed]:
    _check_alike(request, content, path)
    used = Resources(**content["resources"])
    for option, given, recorded in (
        ("--gpus-per-trial", request.share, used.gpus),
        ("--cpus-per-trial", request.cpus_per_trial, used.cpus),
    ):
        if given not in (None, recorded):
            raise ConfigError(
                f"{option} {given:g}: the trials of {path} had {recorded:g}: leave it out"
            )
    if bool(gpus) != bool(used.gpus) and (gpus or cpus):
        option = "GPUs: give --gpus" if used.gpus else "CPUs only: give --cpus"
        raise ConfigError(f"the study {path} ran on {option}, or another --study")
    if gpus is None and cpus is None:
        gpus, cpus = math.ceil(used.gpus * used.concurrent) or None, used.cpus * used.concurrent
    request = replace(request, gpus_per_trial=used.gpus, cpus_per_trial=used.cpus)
    fleet = _fleet(request, gpus, cpus, Node(0, 0))
    data = content["data"]
    counts_K = np.array(data["counts"], dtype=np.int64)
    speed, space = _recorded_speed(Store(path)), request.space
    lines = (
        data_size_lines(
            space.objective,
            data["classes"],
            counts_K,
            data["validation_counts"],
            space.base().batch_size,
        )
        if "validation_counts" in data
        else ()
    )
    source = f"as recorded in {path}"
    return fleet, TrialSpeed(speed, counts_K, int(data["validation"]), source, lines)


def _check_alike(request: SearchRequest, content: Mapping[str, Any], path: str) -> None:
    """Raise ConfigError unless a study has the same data and network as this search.

    Args:
        content: of its study.yaml.
    """
    try:
        recorded = flatten(content["space"]["fixed"])
    except KeyError as error:
        raise StudyError(f"{join(path, FILE)} has no {error}: restore it from a backup") from error
    with contextlib.suppress(ConfigError):  # it has parts of modules that do not run here
        recorded |= TrainConfig.from_settings(active(recorded)).flat()  # and new knobs' defaults
    here, there = _speed_settings(request.space.base().flat()), _speed_settings(recorded)
    for key in [*here, *there]:
        if here.get(key) != there.get(key):
            raise ConfigError(
                f"--study {path} has {key}={there.get(key)}, this search has {here.get(key)}: give "
                "a study with the same data and network"
            )


def _speed_settings(flat: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that decide how fast a trial trains, of all settings of a configuration."""
    slots = ("data", "model", "batch_size", "precision")
    return {key: value for key, value in flat.items() if key.partition(".")[0] in slots}


def _recorded_speed(store: Store) -> Speed:
    """Mean, lowest and highest seconds per image pass of a study's trials, with evaluations.

    The mean is weighted by image passes.
    """
    rows = (
        own_table(store, "trials").select(["images", "seconds"]) if store.exists("trials") else None
    )
    known = rows.filter(pc.greater(rows["images"], 0)) if rows else rows
    if not known:
        raise StudyError(f"{store.path} has no trial with a recorded speed: give another --study")
    images, seconds = (known[name].to_numpy() for name in ("images", "seconds"))
    each = seconds / images
    return Speed(float(seconds.sum() / images.sum()), float(each.min()), float(each.max()))
