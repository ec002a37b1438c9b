"""What must be true of a study after any failures, read from its files alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from imbtune.storage import Store

KEYS = {
    "trials": ["trial"],
    "epochs": ["trial", "phase", "budget", "epoch"],
    "finals": ["trial", "seed"],
}
CLOCK = [
    "seconds",
    "started",
    "ended",
    "node",
    "time",
]  # columns that differ between two equal searches
SET_USER_ATTR = 8  # the code of `set_trial_user_attr` in Optuna's journal


@dataclass(frozen=True)
class Ended:
    """A study that has ended: its tables without the clock, and its winner."""

    tables: dict[str, pd.DataFrame]
    best: dict[str, Any]


def read_ended(path: str) -> Ended:
    """Read a study.

    Args:
        path: its folder or URI.
    """
    store = Store(path)
    tables = {}
    for name, key in KEYS.items():
        rows = store.table(name).to_pandas().sort_values(key).reset_index(drop=True)
        tables[name] = rows.drop(columns=CLOCK, errors="ignore")
    best = yaml.safe_load(store.read("best.yaml"))
    best.get("provenance", {}).pop("study", None)
    return Ended(tables, best)


def problems_of(
    path: str, trials: int, output: str, expected: Ended, ignored: Sequence[str] = ()
) -> list[str]:
    """What is wrong with a study that has ended; empty if nothing is.

    Args:
        trials: the total.
        output: of all commands that worked on it.
        expected: the same search without failures, one trial at a time.
        ignored: columns that are not compared.
    """
    return [*_problems(path, trials, output, expected, ignored)]


def _problems(
    path: str, trials: int, output: str, expected: Ended, ignored: Sequence[str]
) -> Iterator[str]:
    found = read_ended(path)
    for name, key in KEYS.items():
        rows, wanted = found.tables[name], expected.tables[name]
        if rows.duplicated(key).any():
            yield f"{name}: rows are doubled: {rows[rows.duplicated(key)][key].values.tolist()}"
        elif len(rows) != len(wanted):
            yield f"{name}: {len(rows)} rows, not {len(wanted)}"
        elif different := [c for c in wanted if c not in ignored and not rows[c].equals(wanted[c])]:
            yield f"{name}: other values than without failures in {different}"
    if list(found.tables["trials"]["trial"]) != list(range(trials)):
        yield f"trials {list(found.tables['trials']['trial'])}, not 0 to {trials - 1}"
    if found.best != expected.best:
        yield "another best.yaml"
    reports = Counter(_reported_rungs(path))
    for (trial, rung), times in reports.items():
        if times > 1:
            yield f"trial {trial} reported its {rung} {times} times"
    finished = Counter(re.findall(r"  trial (\d+) +finished at ", output))
    assert finished, "the line of a finished trial has changed"
    for number, times in finished.items():
        if times > 1:
            yield f"trial {number} was trained to its end {times} times"
    if "Traceback" in output:
        yield "a traceback"


def _reported_rungs(path: str) -> Iterator[tuple[int, str]]:
    """Each time that the journal records a rung of a trial."""
    for line in Store(path).read("journal.log").decode().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == SET_USER_ATTR:
            for name in entry["user_attr"]:
                if name.startswith("rung "):
                    yield entry["trial_id"], name
