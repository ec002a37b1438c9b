"""What a study has recorded, read once, as the report's frames need it.

Studies of older versions lack columns and keys; then the properties here are empty, and the figures
that need them say why they are left out.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ImbtuneError, StudyError
from imbtune.metrics.metric import Metric, metric_from
from imbtune.report.tested import Tested
from imbtune.storage import Store, join
from imbtune.study.data_size import named
from imbtune.study.evidence import Evidence
from imbtune.study.lock import Activity, time_of, wall_seconds
from imbtune.study.records import COMPLETE, ENDED, FAIL, INTERRUPTED

LOG, COMPLEMENT, LINEAR, CHOICES = "log", "complement", "linear", "choices"  # scales of a knob
SCALE_ENDS = {", log in 1-x": COMPLEMENT, ", log": LOG}  # as study.yaml describes a range


class NothingToDrawError(StudyError):
    """The study has not recorded what a figure shows; the message is the sentence that says so."""


@dataclass(frozen=True)
class SearchedKnob:
    """A knob that the study searched.

    Attributes:
        name: its column in the trials' table, such as `mix.omega`.
        column: its column in the report's frames, such as `k3`: a name without dots and brackets,
            which Vega-Lite would take for a path.
        scale: LINEAR, LOG, COMPLEMENT (logarithmic in 1 - x) or CHOICES.
    """

    name: str
    column: str
    scale: str

    @property
    def title(self) -> str:
        """What an axis of its values is called."""
        return f"1 − {self.name}" if self.scale == COMPLEMENT else self.name


@dataclass(frozen=True, eq=False)
class StudyData:
    """The tables and files of one study.

    Attributes:
        path: its folder or URI.
        info: the content of study.yaml.
        trials: a row per trial that has ended, by number; with `finalist`.
        curves: a row per trial and epoch, so that each trial is one line.
        finals: a row per finalist and fresh seed.
        winner: number of the winner by the finals; None without finals.
        baseline: number of the best preset by the finals; None without.
        evidence: how sure the winner is; None without finals.
        tested: what `imbtune train` found on the test images; None where the winner has not been
            tested.
        activity: whether a process works on the study.
        journal_ended: trials that have ended by the journal of a search that was killed, of which
            the tables may lack some; 0 where it has not been read.
        rung_rho: Spearman's ρ of each rung with the finished model, by budget, from the
            calibration that the study followed; empty without one.
        front_files: numbers of the trials whose configuration is in a file `front-N.yaml`.
        tracebacks: numbers of the failed trials whose traceback is in a file `errors/trial-N.txt`.
    """

    path: str
    info: Mapping[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    finals: pd.DataFrame
    winner: int | None = None
    baseline: int | None = None
    evidence: Evidence | None = None
    tested: Tested | None = None
    activity: Activity = field(default_factory=Activity)
    rung_rho: Mapping[int, float] = field(default_factory=dict)
    journal_ended: int = 0
    front_files: Sequence[int] = ()
    tracebacks: Sequence[int] = ()

    @property
    def name(self) -> str:
        """The name in study.yaml; the folder may have been renamed since."""
        return str(self.info.get("name") or self.path)

    @property
    def objective(self) -> str:
        """What a score is, in words: the metric that was maximised."""
        return self.objectives[0].words() if self.objectives else "score"

    @property
    def objectives(self) -> Sequence[Metric]:
        """The metrics that were maximised, of a search with several; else at most one."""
        space = self._section("space")
        settings = space.get("objectives") or [space["objective"]] if space.get("objective") else []
        return named(map(metric_from, settings), self._section("data"))

    @property
    def is_share(self) -> bool:
        """Whether scores are between 0 and 1, so that differences are told in points."""
        return self.objectives[0].is_share if self.objectives else True

    @property
    def score_bounds(self) -> tuple[float, float]:
        """The lowest and the highest score that there can be."""
        setting = self._section("space").get("objective")
        return metric_from(setting).bounds if setting else (0.0, 1.0)

    @property
    def objective_column(self) -> str:
        """The column of the metric that was maximised, in its own range."""
        setting = self._section("space").get("objective")
        return metric_from(setting).name if setting else "score"

    @property
    def planned(self) -> int | None:
        """How many trials the study was started with; None where it is not recorded."""
        found = self.info.get("trials")
        return found if isinstance(found, int) else None

    @property
    def classes(self) -> Sequence[str]:
        """The classes' names in the order of the recalls; numbers where they are not recorded."""
        names = self._section("data").get("classes")
        return [str(name) for name in names] if names else [str(i) for i in range(len(self.counts))]

    @property
    def counts(self) -> Sequence[int]:
        """Training images of each class; empty where they are not recorded."""
        return [int(count) for count in self._section("data").get("counts") or ()]

    @property
    def data_hash(self) -> str:
        """The fingerprint of the images; empty where it is not recorded."""
        return str(self._section("data").get("sha256") or "")

    @property
    def validation_counts(self) -> Sequence[int]:
        """Validation images of each class; empty where they are not recorded."""
        return [int(count) for count in self._section("data").get("validation_counts") or ()]

    @property
    def budgets(self) -> Sequence[int]:
        """The rungs in epochs, rising to the full budget."""
        recorded = self._section("rungs").get("budgets")
        if recorded:
            return [int(budget) for budget in recorded]
        return sorted({int(b) for reached in self.trials["rung_budgets"] for b in reached})

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The trials that were trained to the full budget."""
        return self.trials[self.trials["state"] == COMPLETE]

    @cached_property
    def compared(self) -> Mapping[str, int]:
        """The trials that figures point out: `winner` and `best preset`, by the finals.

        Without finals, the finished trial with the best score of one run, and the best preset of
        these; empty where none has finished. One alone where they are the same.
        """
        winner, preset = self.winner, self.baseline
        if winner is None:
            ranked = self.finished.sort_values(["score", "trial"], ascending=[False, True])
            presets = ranked[ranked["preset"].notna()]
            winner = int(ranked["trial"].iloc[0]) if len(ranked) else None
            preset = int(presets["trial"].iloc[0]) if len(presets) else None
        found = {"winner": winner, "best preset": preset if preset != winner else None}
        return {kind: trial for kind, trial in found.items() if trial is not None}

    def count(self, state: str) -> int:
        """How many trials ended in a state."""
        return int((self.trials["state"] == state).sum())

    @property
    def training_seconds(self) -> float:
        """Training time of all runs together, trials and finals, in seconds."""
        tables = [table for table in (self.trials, self.finals) if "seconds" in table]
        return float(sum(table["seconds"].astype(float).sum() for table in tables))

    @property
    def started(self) -> dt.datetime | None:
        """When the search was first started (UTC); None where study.yaml does not say it."""
        return time_of(self.info.get("started"))

    @property
    def wall_seconds(self) -> float | None:
        """From the first start to the end, in seconds, with the time before it was resumed.

        None where study.yaml has not both times.
        """
        return wall_seconds(self.info)

    @property
    def done(self) -> int:
        """How many trials have ended, other than by an interruption, after which they go on."""
        return max(self._tabled, self.journal_ended)

    @property
    def only_in_journal(self) -> int:
        """How many trials have ended that the tables do not have yet."""
        return self.done - self._tabled

    @property
    def _tabled(self) -> int:
        return sum(self.count(state) for state in (*ENDED, FAIL))

    @property
    def is_running(self) -> bool | None:
        """Whether the search runs; None where that cannot be known from here."""
        return False if self.has_ended or self.info.get("end") else self.activity.locked

    @property
    def has_ended(self) -> bool:
        """Whether the search has ended; False where it is running, or was interrupted or killed.

        Versions that did not record the end did not record the machines either; there, that all
        trials have ended says it.
        """
        if self.info.get("end"):
            return bool(self.info["end"] != INTERRUPTED)
        if self.activity.locked or ("host" in self.trials and self.trials["host"].notna().any()):
            return False
        return self.winner is not None or (
            self.planned is not None and self._tabled >= self.planned
        )

    @cached_property
    def knobs(self) -> Sequence[SearchedKnob]:
        """The searched knobs that the trials' table has and that some trial used.

        A knob keeps its column while a search goes on, and uses more of them.
        """
        described = self._section("space").get("knobs") or {}
        return [
            SearchedKnob(name, f"k{i}", _scale(name, values, self))
            for i, (name, values) in enumerate(described.items())
            if name in self.trials and self.trials[name].notna().any()
        ]

    def _section(self, name: str) -> Mapping[str, Any]:
        found = self.info.get(name)
        return found if isinstance(found, Mapping) else {}


def _scale(name: str, described: object, study: StudyData) -> str:
    if not pd.api.types.is_numeric_dtype(study.trials[name].dtype) or str(
        study.trials[name].dtype
    ) in ("bool", "boolean"):
        return CHOICES
    text = str(described)
    return next((scale for end, scale in SCALE_ENDS.items() if text.endswith(end)), LINEAR)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, each by column."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def without_nulls(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, each by column; None instead of NaN."""
    return records(frame.astype(object).where(frame.notna(), None))


def trials_with_file(store: Store, folder: str, name: re.Pattern[str]) -> Sequence[int]:
    """The numbers of the trials that have a file in a folder; none where it cannot be listed.

    Args:
        name: of such a file; its first group is the trial's number.
    """
    try:
        return [int(found[1]) for file in store.names(folder) if (found := name.fullmatch(file))]
    except (OSError, ImbtuneError):
        return []


def recorded_rho(info: Mapping[str, Any]) -> Mapping[int, float]:
    """ρ of each rung with the full budget, from the calibration that a study followed, if any."""
    request = info.get("request")
    followed = request.get("calibration") if isinstance(request, Mapping) else None
    try:
        place, kind = followed["place"], info["rungs"]["kind"]  # type: ignore[index]
        content = parse_yaml(join(place, "calibration.yaml"), Store(place).read("calibration.yaml"))
        reports = content["reports"]
        return {int(r["budget"]): float(r["rho"]) for r in reports if r["kind"] == kind}
    except (OSError, ValueError, LookupError, TypeError, ImbtuneError):
        return {}
