"""What every tracker is told of a study: its runs, their configuration, their curves."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from imbtune.config.defaults import DEFAULTS
from imbtune.registry import Value
from imbtune.study.records import COMPLETE, FAIL, STOPPED
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Row

MOST_CURVES = 100  # classes; with more, recall has no curve for each class
LONGEST_CLASS = 80  # characters of a class in the name of a curve
LEFT_OUT = ("trial", "trunk", "seed", "time", "ended", "started")  # numbers that are no result

Values = Mapping[str, float]


class Kind(StrEnum):
    """What a run is trained for."""

    TRIAL = "trial"
    FINAL = "final"
    CALIBRATION = "calibration"


@dataclass(frozen=True)
class TrackedStudy:
    """The study that a tracker shows.

    Attributes:
        name: as it was when the study began; a folder that is renamed keeps it.
        id: of the study: of its name, its start and its seed. A later study of the name has
            another one.
        request: its options.
        classes: names of the classes.
        folder: where local trackers write.
    """

    name: str
    id: str
    request: SearchRequest
    classes: Sequence[str]
    folder: Path

    @property
    def full_budget(self) -> int:
        """Epochs of a whole run."""
        return self.request.budgets[-1]


@dataclass(frozen=True)
class Run:
    """One training, as trackers show it.

    Attributes:
        kind: what it is trained for.
        number: of the trial.
        settings: the complete configuration, by knob.
        preset: name of the trial's preset, or None.
        seed: of a final, its fresh seed; of a calibration's run 0 or 1; else None.
    """

    kind: Kind
    number: int
    settings: Mapping[str, Value]
    preset: str | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Tells it apart from the study's other runs: `3`, `final-3-1670527063`, `3-B`."""
        if self.kind is Kind.FINAL:
            return f"final-{self.number}-{self.seed}"
        return f"{self.number}-{'AB'[self.seed]}" if self.seed is not None else str(self.number)

    def flat(self) -> dict[str, Value]:
        """Kind, trial, preset and settings, without the knobs that do not act."""
        found: dict[str, Value | None] = {"kind": str(self.kind), "trial": self.number}
        found |= {"preset": self.preset, **self.settings}
        return {key: value for key, value in found.items() if value is not None}

    def nested(self) -> dict[str, Any]:
        """The same by slot, as in a configuration file: `{"mix": {"name": "mamix", …}}`."""
        found: dict[str, Any] = {}
        for key, value in self.flat().items():
            slot, dot, knob = key.partition(".")
            if slot in DEFAULTS:
                found.setdefault(slot, {})[knob if dot else "name"] = value
            else:
                found[key] = value
        return found


class Tracker(Protocol):
    """A program that shows runs. It is called in one thread, which may wait for it."""

    title: str  # in lines for the user
    where: str  # where its files or pages are, and how to see them
    tell: Callable[[str], None]  # is set: what goes on after the title in a line for the user

    def begin(self, run: Run) -> int:
        """Open a run; returns how many of its epochs the tracker has from an earlier process."""

    def epoch(self, run: Run, step: int, row: Row, values: Values) -> None:
        """Show an epoch.

        Args:
            step: its place among the run's epochs, from 0.
            row: of the epochs' table.
            values: the row's curves, by name.
        """

    def end(self, run: Run, state: str, row: Row, values: Values) -> None:
        """Show how a run ended, and close it.

        Args:
            state: COMPLETE, PRUNED, FAIL or STOPPED.
            row: of the table of trials or finals; empty for a run that was interrupted.
            values: the row's numbers, by name.
        """

    def report(self, path: Path) -> None:
        """Keep the study's report, an HTML file."""

    def close(self) -> None:
        """Show everything that was told; no more follows. Runs that are open were interrupted."""

    def leave(self) -> None:
        """End what the tracker has started, in a few seconds, whether or not all was shown.

        It is called in another thread than the other methods, one of which may not return.
        """


def tracked_study(request: SearchRequest, content: Mapping[str, Any], folder: Path) -> TrackedStudy:
    """The study as trackers know it.

    Args:
        content: of study.yaml.
        folder: where local trackers write.
    """
    classes = [str(name) for name in content["data"].get("classes", [])]
    return TrackedStudy(
        str(content.get("name", request.name)),
        study_id(content),
        request,
        classes,
        folder,
    )


def study_id(content: Mapping[str, Any]) -> str:
    """The ID of a study, which begins the IDs of its runs.

    Args:
        content: of study.yaml.
    """
    identity = f"{content.get('name')} {content.get('started')} {content.get('seed')}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def curves(study: TrackedStudy, row: Row) -> dict[str, float]:
    """The values of an epoch, by the name of their curve; only finite ones.

    Each curve has one value an epoch. Those of the whole run have plain names, such as `loss`:
    trunk and last cool-down. An epoch of a lower rung's model, which is scored and dropped, is in a
    group of its own, such as `rung-27/loss`.
    """
    budget = row["budget"]
    group = "" if budget == study.full_budget else f"rung-{budget}/"
    values = {name: v for name, v in numbers(row).items() if name not in ("epoch", "budget")}
    if len(study.classes) <= MOST_CURVES:
        values |= recalls(study, row)
    return {f"{group}{name}": value for name, value in values.items()}


def numbers(row: Row) -> dict[str, float]:
    """The finite numbers of a row of a table that are results, by column."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, int | float) and name not in LEFT_OUT and math.isfinite(value)
    }


def recalls(study: TrackedStudy, row: Row) -> dict[str, float]:
    """The recall of each class that has validation images, as `recall/CLASS`."""
    recall_K = row.get("recall") or []
    names = class_names(study.classes, len(recall_K))
    both = zip(names, recall_K, strict=True)
    return {f"recall/{name}": value for name, value in both if math.isfinite(value)}


def class_names(classes: Sequence[str], count: int) -> list[str]:
    """A name for each class that every tracker takes, and that no other class has.

    Letters, digits, spaces, `-` and `_` stay; a class without a name is called by its index.
    """
    given = [*classes[:count], *map(str, range(len(classes), count))]
    plain = [re.sub(r"[^\w -]", "_", name).strip()[:LONGEST_CLASS].strip() for name in given]
    counts = Counter(name.lower() for name in plain)
    taken = {name for name, count in counts.items() if name and count == 1}
    found = []
    for index, name in enumerate(plain):
        if name.lower() not in taken or counts[name.lower()] > 1:
            name = f"{name or 'class'}-{index}"
            while name.lower() in taken:  # a class is called like this
                name += "_"
            taken.add(name.lower())
        found.append(name)
    return found


def failed(state: str) -> bool:
    """Whether a run ended without what it was to train."""
    return state in (FAIL, STOPPED)


def finished(state: str) -> bool:
    """Whether a run was trained to the full budget."""
    return state == COMPLETE
