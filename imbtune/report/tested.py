"""What `imbtune train` found on the test images, read from the folder of its models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imbtune.errors import ImbtuneError
from imbtune.metrics.number_text import as_text
from imbtune.storage import Store

FOLDER = "best"  # of the winner's models in the study's folder
MODEL = "manifest.json"  # is in the folder of a model; earlier versions wrote other files
SEED_FOLDER = re.compile(r"seed\d+")  # in a training's folder: the models of its other seeds


@dataclass(frozen=True)
class TestScore:
    """A metric on the test images.

    Attributes:
        mean: over the seeds.
        deviation: sample standard deviation over the seeds; None for one seed.
        seeds: how many.
    """

    mean: float
    deviation: float | None
    seeds: int

    def __str__(self) -> str:
        return as_text(self.mean, ".3f") + (
            "" if self.deviation is None else f" ± {self.deviation:.3f}"
        )


@dataclass(frozen=True)
class Tested:
    """What `imbtune train` found on the test images.

    Attributes:
        winner: the scores of the winner, by metric.
        presets: those of the presets that `--baselines` trained with it, by preset and metric.
        options: with which they were trained, as words of a command such as `--ema 0.99`; empty for
            the configuration alone.
        has_model: whether the folder has a model that `predict`, `evaluate` and `export` read.
    """

    winner: Mapping[str, TestScore]
    presets: Mapping[str, Mapping[str, TestScore]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    has_model: bool = False


def read_tested(store: Store, winner: int | None) -> Tested | None:
    """The scores of `imbtune train` on the study's winner, and on the presets beside it.

    None where this winner has not been tested.
    """
    own = _results(store, FOLDER, winner)
    if own is None:
        return None
    try:
        names = store.names(FOLDER)
    except (OSError, ImbtuneError):
        names = []
    found = {
        name: _results(store, f"{FOLDER}/{name}", None)
        for name in names
        if not SEED_FOLDER.fullmatch(name)
    }
    presets = {name: _scores(content) for name, content in found.items() if content is not None}
    return Tested(_scores(own), presets, _options(own), MODEL in names)


def _results(store: Store, folder: str, winner: int | None) -> Mapping[str, Any] | None:
    """The results of a training; None without, or where another trial has won since."""
    names = [f"{folder}/{name}" for name in ("metrics.json", "results.json")]  # earlier versions
    try:
        found = next((name for name in names if store.exists(name)), None)
        if found is None:
            return None
        content: dict[str, Any] = json.loads(store.read(found))
        trained = content.get("provenance", {}).get("winner", {}).get("trial")
        if winner is not None and trained is not None and trained != winner:
            return None
        _scores(content)  # it can be read
        return content
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImbtuneError):
        return None  # the report of a study does not need it


def _scores(content: Mapping[str, Any]) -> Mapping[str, TestScore]:
    seeds = len(content["runs"])
    return {
        metric: TestScore(float(value["mean"]), _number(value.get("std")), seeds)
        for metric, value in content["test"].items()
    }


def _options(content: Mapping[str, Any]) -> tuple[str, ...]:
    given = content.get("options")
    values = {name: _number(given.get(name)) for name in ("ema", "calibrate")} if given else {}
    words = [(f"--{name}", f"{value:g}") for name, value in values.items() if value is not None]
    return tuple(word for pair in words for word in pair)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
