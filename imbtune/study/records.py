"""What is recorded of a search: rungs, trials, finals, and the outcome."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from imbtune.config.defaults import DEFAULTS
from imbtune.metrics.metric import Metric
from imbtune.registry import Value
from imbtune.strict_json import nan_for_null, null_for_nan

COMPLETE, PRUNED, FAIL, STOPPED = "COMPLETE", "PRUNED", "FAIL", "STOPPED"  # states of a trial
NOT_METHOD = ("data", "model", "schedule")  # slots that are no part of a method
ENDED = (COMPLETE, PRUNED)  # neither failed nor interrupted
WORDS = {COMPLETE: "finished", PRUNED: "stopped", FAIL: "failed", STOPPED: "interrupted"}
FINISHED, INTERRUPTED, OUT_OF_TIME, FAILED = "finished", "interrupted", "time budget", "failed"
ENDS = {  # of a search, in study.yaml
    FINISHED: "all trials and finals are complete",
    INTERRUPTED: "the user or a signal ended it",
    OUT_OF_TIME: "--time-budget was used up before all trials had started",
    FAILED: "trials failed for one reason, and no other trial scored above chance",
}
ERRORS = "errors"  # the folder of tracebacks
TRACEBACK_FILE = re.compile(r"trial-(\d+)\.txt")  # in it, of a trial
FRONT_FILE = re.compile(r"front-(\d+)\.yaml")  # of a trial of the Pareto front
MARGINS = ("margin_train", "margin_val", "probability_margin_train", "probability_margin_val")
DIVERGED_KIND = "diverged"  # of a failure

Row = dict[str, Any]  # of a table, or an entry of the journal, by column


def front_name(trial: int) -> str:
    """The file of a trial of the Pareto front."""
    return f"front-{trial}.yaml"


@dataclass(frozen=True)
class Machine:
    """Where a trial was trained.

    Attributes:
        node: Ray's ID of the machine.
        host: the machine's name; None in older studies, as all that follows.
        device: `cpu`, or the name of the GPU.
        gpu: the GPU's number on its machine; None on a CPU.
    """

    node: str
    host: str | None = None
    device: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Cutoff:
    """At which rung ASHA stopped a trial, or would have stopped it.

    Attributes:
        budget: epochs of the rung.
        score: the cut-off, which the trial's score was below.
        is_spared: whether the trial went on all the same, in the never-pruned sample.
    """

    budget: int
    score: float
    is_spared: bool


@dataclass(frozen=True)
class RungRecord:
    """A rung that a trial reached.

    Attributes:
        order: position among all rungs of the study in the order of reporting, from 0.
        kind: `cooldown`, `compressed` or `prefix`.
        budget: epochs of the finished model that was scored.
        score: the objective, on the validation images.
        images: image passes of the trial so far. If several trials share a trunk, its passes
            count for the first one; the others have those of their own cool-downs.
        metrics: all metrics by name, each in its own range (docs/metrics.md); None where undefined.
        recall_K: recall of each class.
        margins: mean margin of each class (K,) by the names in `MARGINS`; empty below the full
            budget.
        node: Ray's ID of the machine.
        seconds: of training so far, in all processes; divided among trials as `images` are.
        threads: CPU threads, on which the last bits of a score depend.
        confusion: at the full budget, label, prediction and count of each pair of classes that
            occurs, one after the other; None below it, and in older studies.
        score_error: standard error of the score, from the number of images; None in older studies.
    """

    order: int
    kind: str
    budget: int
    score: float
    images: int
    metrics: Mapping[str, float | None]
    recall_K: Sequence[float]
    margins: Mapping[str, Sequence[float]]
    node: str
    seconds: float
    threads: int
    confusion: Sequence[int] | None = None
    score_error: float | None = None

    def scores(self, objectives: Sequence[Metric]) -> list[float]:
        """The score of each objective; the first is `score`."""
        return [self.score, *other_scores(self.metrics, objectives)]

    def columns(self) -> Row:
        """Metrics, recall and margins by their column in the tables."""
        return {**self.metrics, "recall": self.recall_K, **self.margins}

    def to_journal(self) -> Row:
        """As Optuna's journal holds it, in a user attribute of its trial."""
        return {
            "order": self.order,
            "kind": self.kind,
            "budget": self.budget,
            "score": self.score,
            "images": self.images,
            "figures": null_for_nan(self.columns()),  # the key that studies on disk have
            "node": self.node,
            "seconds": self.seconds,
            "threads": self.threads,
            **({} if self.confusion is None else {"confusion": list(self.confusion)}),
            **({} if self.score_error is None else {"score_error": self.score_error}),
        }

    @classmethod
    def from_journal(cls, entry: Row) -> RungRecord:
        """The inverse of `to_journal`.

        Raises:
            TypeError, KeyError: an entry that another version of imbtune wrote.
        """
        columns = dict(entry["figures"])
        return cls(
            metrics={k: v for k, v in columns.items() if k != "recall" and k not in MARGINS},
            recall_K=nan_for_null(columns["recall"]),
            margins={name: nan_for_null(columns[name]) for name in MARGINS if name in columns},
            **{key: value for key, value in entry.items() if key != "figures"},
        )


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the study records it.

    Attributes:
        number: of the Optuna trial.
        trunk: the number of the trial whose trunk it shares; its own for most.
        preset: name of the preset, or None.
        state: one of COMPLETE, PRUNED, FAIL and STOPPED (interrupted).
        settings: the complete configuration.
        rungs: that it reached, in rising order.
        cutoff: where ASHA stopped it, or would have stopped it if it did not belong to the sample
            of trials that run to the end to measure what stopping costs; else None.
        machine: on which it was trained last; None before its first report.
        started: when a worker first began to train it, in seconds since 1970 (UTC); None before
            its first report, and in older studies.
        retry_of: the number of the failed trial that it repeats; None for most.
        ended: in seconds since 1970 (UTC).
        diverged: why it diverged, as in "epoch 12: the loss is not finite (nan)"; else None.
        error: why it failed, if it raised an exception or its worker was lost too often, in one
            line; else None. None in studies of imbtune 0.2 and before, whose tables have it.
    """

    number: int
    trunk: int
    preset: str | None
    state: str
    settings: Mapping[str, Value]
    rungs: Sequence[RungRecord] = ()
    cutoff: Cutoff | None = None
    ended: float = 0.0
    diverged: str | None = None
    error: str | None = None
    machine: Machine | None = None
    started: float | None = None
    retry_of: int | None = None

    @property
    def never_pruned(self) -> int | None:
        """Of a trial of the never-pruned sample, the budget at which ASHA would have stopped it."""
        return self.cutoff.budget if self.cutoff and self.cutoff.is_spared else None

    @property
    def score(self) -> float | None:
        """The objective at the highest rung reached."""
        return self.rungs[-1].score if self.rungs else None

    @property
    def budget(self) -> int:
        """Epochs of the highest rung reached; 0 for none."""
        return self.rungs[-1].budget if self.rungs else 0

    @property
    def images(self) -> int:
        """Image passes until the highest rung reached."""
        return self.rungs[-1].images if self.rungs else 0

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All metrics at the highest rung reached."""
        return self.rungs[-1].metrics if self.rungs else {}

    @property
    def failure(self) -> str:
        """Why a failed trial failed, in one line."""
        return self.error or self.diverged or "no error was recorded"

    def row(self) -> Row:
        """Its row in the trials' table."""
        last = self.rungs[-1] if self.rungs else None
        return {
            "trial": self.number,
            "trunk": self.trunk,
            "preset": self.preset,
            "state": self.state,
            "score": self.score,
            "score_error": last.score_error if last else None,
            "budget": self.budget,
            "rung_budgets": [rung.budget for rung in self.rungs],
            "rung_scores": [rung.score for rung in self.rungs],
            "rung_score_errors": [rung.score_error for rung in self.rungs],
            "rescued": self.never_pruned,  # the column that studies on disk have
            "cutoff": self.cutoff.score if self.cutoff else None,
            **(last.columns() if last else {}),
            "confusion": confusion_column(last.confusion if last else None),
            "images": self.images,
            "seconds": last.seconds if last else None,
            "threads": last.threads if last else None,
            **machine_columns(self.machine or (Machine(last.node) if last else None)),
            "started": utc(self.started),
            "ended": utc(self.ended),
            "error": self.error or self.diverged,
            **self.settings,
        }


@dataclass(frozen=True)
class FinalRecord:
    """A finalist trained again with one fresh seed, on the search's data.

    Attributes:
        trial: its number.
        seed: of the training.
        score: the objective, on the validation images.
        metrics: all metrics by name.
        score_error: standard error of the score, from the number of images; None in older studies.
        scores_without_groups: the score without each group of the images
            (:mod:`imbtune.metrics.score_error`); None in older studies.
    """

    trial: int
    seed: int
    score: float
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    score_error: float | None = None
    scores_without_groups: Sequence[float] | None = None

    def scores(self, objectives: Sequence[Metric]) -> list[float]:
        """The score of each objective; the first is `score`."""
        return [self.score, *other_scores(self.metrics, objectives)]


def other_scores(metrics: Mapping[str, float | None], objectives: Sequence[Metric]) -> list[float]:
    """The scores of the objectives after the first."""
    found = [metric.score_of(metrics[metric.name]) for metric in objectives[1:]]
    assert None not in found, "checked before the search: the labels alone decide"
    return [score for score in found if score is not None]


def machine_columns(machine: Machine | None) -> Row:
    """A machine's columns in the tables; all null without one."""
    return asdict(machine) if machine else dict.fromkeys(f.name for f in fields(Machine))


def confusion_column(confusion: Sequence[int] | None) -> list[Row] | None:
    """A confusion matrix as the tables have it: an entry for each pair of classes that occurs."""
    if confusion is None:
        return None
    triples = zip(confusion[::3], confusion[1::3], confusion[2::3], strict=True)
    return [{"label": i, "predicted": j, "count": count} for i, j, count in triples]


def utc(seconds: float | None) -> dt.datetime | None:
    """A time as the tables have it, from seconds since 1970."""
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


def counted(records: Sequence[TrialRecord]) -> tuple[int, str]:
    """How many trials have ended, and how many are in each state, in words.

    An interrupted trial has not ended: a resumed search goes on with it.
    """
    states = [record.state for record in records]
    words = {s: f"{states.count(s)} {word}" for s, word in WORDS.items() if s in states}
    if FAIL in words and (again := states.count(FAIL) - len(failed_for_good(records))):
        words[FAIL] += f" ({again} since trained again without failing)"
    return len(states) - states.count(STOPPED), ", ".join(words.values())


def failed_for_good(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The failed trials that `--retry-failed` has not repeated without failing."""
    by_number = {record.number: record for record in records}
    repeated = set[int]()
    for record in records:
        again = record.retry_of if record.state in ENDED else None
        while again is not None and again in by_number and again not in repeated:
            repeated.add(again)
            again = by_number[again].retry_of
    return [r for r in records if r.state == FAIL and r.number not in repeated]


def kind_of(reason: str, has_diverged: bool) -> str:
    """The kind of a failure's reason: divergences are of one kind, wherever they happened.

    Other reasons are of one kind where they differ in numbers only, as of an image or a trial.
    """
    return DIVERGED_KIND if has_diverged else re.sub(r"\d+", "0", reason)


def summary(settings: Mapping[str, Value]) -> str:
    """A configuration in a few words: the parts of its method that are not the defaults."""
    parts = []
    for slot, default in DEFAULTS.items():
        if slot in NOT_METHOD or settings[slot] == default:
            continue
        when = f" {settings['weights.schedule']}" if slot == "weights" else ""
        parts.append(f"{settings[slot]}{when}")
    return " + ".join(parts) or "cross-entropy"
