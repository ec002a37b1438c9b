"""A comparison as its figures show it: a row per configuration, in the order of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from imbtune.metrics.metric import objectives_from
from imbtune.metrics.metric_registry import GROUPS
from imbtune.registry import Value
from imbtune.report.study_data import NothingToDrawError
from imbtune.storage import Store
from imbtune.study.data_size import named
from imbtune.study.lock import Activity, activity_of
from imbtune.study.results.comparison_record import (
    Comparison,
    recorded_comparison,
    recorded_runs,
)
from imbtune.study.results.layout import Layout, lay_out
from imbtune.study.results.table import ComparisonTable, TableRow, make_table


@dataclass(frozen=True)
class RecordedSpace:
    """The space of a comparison as study.yaml has it.

    Attributes:
        name: of the space.
        pinned: the settings of `--set`.
    """

    name: str
    pinned: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class ComparisonData:
    """A comparison, read once.

    Attributes:
        path: its folder or URI.
        info: the content of study.yaml.
        comparison: what is compared.
        runs: a line for each run that has finished.
        table: the numbers of these runs.
        layout: the table in words.
        activity: whether a process works on the comparison.
    """

    path: str
    info: Mapping[str, Any]
    comparison: Comparison
    runs: pd.DataFrame
    table: ComparisonTable
    layout: Layout
    activity: Activity = field(default_factory=Activity)

    @property
    def name(self) -> str:
        """The name in study.yaml; the folder may have been renamed since."""
        return str(self.info.get("name") or self.path)

    @property
    def objective(self) -> str:
        """The metric of ranks and tests, in words."""
        return self.table.objective.words(of_a_score=False)


def read_comparison_data(path: str, info: Mapping[str, Any]) -> ComparisonData:
    """Read a comparison, also while it runs. No plugin is run.

    Raises:
        StudyError: `comparison.yaml` is missing or damaged.
        ConfigError: the objective is no metric of this version.
    """
    store, space = Store(path), info["space"]
    comparison, _ = recorded_comparison(store)
    runs = recorded_runs(store)
    given = objectives_from(space.get("objectives") or [space["objective"]])
    objectives = named(given, info.get("data") or {})
    table = make_table(comparison, runs, objectives)
    recorded = RecordedSpace(str(space.get("name", "")), space.get("set") or {})
    layout = lay_out(table, recorded)
    return ComparisonData(path, info, comparison, runs, table, layout, activity_of(store))


def kinds_of(table: ComparisonTable) -> Sequence[str]:
    """The role of each row, for its colour and shape: the best row is the winner, and the best
    preset among the others is the best preset."""
    others = [line.row.name for line in table.rows[1:] if line.row.preset]
    roles = dict.fromkeys(others[:1], "best preset")
    first = ["winner"] if table.rows else []
    return [*first, *(roles.get(line.row.name, "trial") for line in table.rows[1:])]


def seeds_frame(data: ComparisonData) -> pd.DataFrame:
    """A row per run: `label` (the configuration), `seed`, `score` (the objective in its own range),
    `mean`, `low` and `high` (mean ± sample standard deviation; null for one seed), `kind`.

    Raises:
        NothingToDrawError: no run has finished.
    """
    metric = data.table.objective.name
    found = []
    for line, kind in zip(data.table.rows, kinds_of(data.table), strict=True):
        mean, std = line.means[metric], line.stds[metric]
        if mean is None:
            continue
        ends = (None, None) if std is None else (mean - std, mean + std)
        runs = data.runs[data.runs["row"] == line.row.name]
        for seed, score in zip(runs["seed"], runs[metric], strict=True):
            shared = {"mean": mean, "low": ends[0], "high": ends[1], "kind": kind}
            found.append({"label": line.row.name, "seed": seed, "score": score, **shared})
    if not found:
        raise NothingToDrawError("no run has finished yet")
    return pd.DataFrame(found)


def lead_frame(data: ComparisonData) -> pd.DataFrame:
    """A row per configuration that was tested: `label`, `lead` over the reference (of a share in
    percentage points), `low` and `high` (its 95 % interval), `p` (Holm-corrected), `kind`.

    Raises:
        NothingToDrawError: nothing was tested, or with one seed, which has no interval.
    """
    scale = 100 if data.table.objective.is_share else 1
    found = [
        {
            "label": line.row.name,
            "lead": scale * line.test.lead,
            "low": scale * line.test.low,
            "high": scale * line.test.high,
            "p": line.test.p_holm,
            "kind": kind,
        }
        for line, kind in zip(data.table.rows, kinds_of(data.table), strict=True)
        if line.test and line.test.low is not None and line.test.high is not None
    ]
    if not found:
        raise NothingToDrawError(
            "a paired test needs two configurations that have all of their runs, and two seeds"
        )
    return pd.DataFrame(found)


def group_frame(data: ComparisonData) -> pd.DataFrame:
    """A row per configuration and group of classes: `label`, `group`, `mean` (of the recall, over
    classes and seeds), `low` and `high` (± sample standard deviation over the seeds).

    Raises:
        NothingToDrawError: the data has classes of one group alone, or no run has finished.
    """
    found = [
        row
        for line in data.table.rows
        for name in GROUPS
        if (row := _group(line, name)) is not None
    ]
    if len({row["group"] for row in found}) < 2:
        raise NothingToDrawError("all classes are in one of the groups many, medium and few")
    return pd.DataFrame(found)


def _group(line: TableRow, name: str) -> dict[str, Any] | None:
    mean, std = line.means[name], line.stds[name]
    if mean is None:
        return None
    return {
        "label": line.row.name,
        "group": name,
        "mean": mean,
        "low": None if std is None else max(0.0, mean - std),
        "high": None if std is None else min(1.0, mean + std),
    }
