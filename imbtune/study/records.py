"""What a search has to tell: a record of each trial, and its outcome. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imbtune.registry import Value

COMPLETE, PRUNED, FAIL, STOPPED = "COMPLETE", "PRUNED", "FAIL", "STOPPED"  # states of a trial
ENDED = (COMPLETE, PRUNED)  # by itself: neither cut off nor failed on its way
WORDS = {COMPLETE: "finished", PRUNED: "stopped", FAIL: "failed", STOPPED: "cut off"}


@dataclass(frozen=True)
class RungRecord:
    """A rung that a trial reached.

    order: its place among all rungs of the study, in the order that they were reached in. budget:
    epochs of the finished model that was scored. images: image passes of the trial so far. seconds:
    of training so far, whoever trained it. A late variant has the images and seconds of its own
    cool-downs alone. figures: all metrics. threads: of the CPU, on which the last bits of a score
    depend.
    """

    order: int
    kind: str
    budget: int
    score: float
    images: int
    figures: Mapping[str, Any]
    node: str
    seconds: float
    threads: int


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the study has it.

    trunk: the number of the trial whose trunk it shares; its own for most. settings: complete.
    rescued: the budget at which ASHA would have stopped it, had it not been let run to see what
    that costs.
    """

    number: int
    trunk: int
    preset: str | None
    state: str
    settings: Mapping[str, Value]
    rungs: Sequence[RungRecord] = ()
    rescued: int | None = None
    ended: float = 0.0

    @property
    def score(self) -> float | None:
        """The objective at the highest rung reached."""
        return self.rungs[-1].score if self.rungs else None

    @property
    def budget(self) -> int:
        return self.rungs[-1].budget if self.rungs else 0

    @property
    def images(self) -> int:
        return self.rungs[-1].images if self.rungs else 0

    @property
    def figures(self) -> Mapping[str, Any]:
        """All metrics at the highest rung reached."""
        return self.rungs[-1].figures if self.rungs else {}

    def row(self) -> dict[str, Any]:
        """Its row in the trials' table, but for `ended` and `error`."""
        last = self.rungs[-1] if self.rungs else None
        return {
            "trial": self.number,
            "trunk": self.trunk,
            "preset": self.preset,
            "state": self.state,
            "score": self.score,
            "budget": self.budget,
            "rung_budgets": [rung.budget for rung in self.rungs],
            "rung_scores": [rung.score for rung in self.rungs],
            "rescued": self.rescued,
            **self.figures,
            "images": self.images,
            "seconds": last.seconds if last else None,
            "threads": last.threads if last else None,
            "node": last.node if last else None,
            **self.settings,
        }


@dataclass(frozen=True)
class FinalRecord:
    """A finalist trained again with one fresh seed, on the search's data."""

    trial: int
    seed: int
    score: float


@dataclass(frozen=True)
class SearchOutcome:
    """A search's end.

    winner: the finalist with the best mean; without finals, the best finished trial. baseline: the
    best preset, by the same measure. seconds: since this command began. full_images: image passes
    that whole runs of all trials in `ENDED` take. finals: all of them. dropped: finalists that lack
    a seed, because a run of theirs failed. cut_off: it ended before its trials or finals did, and
    not for its time budget.
    """

    path: str
    records: list[TrialRecord]
    winner: TrialRecord | None
    baseline: TrialRecord | None
    seconds: float
    full_images: int = 0
    finals: list[FinalRecord] = field(default_factory=list)
    dropped: Sequence[int] = ()
    cut_off: bool = False


def summary(settings: Mapping[str, Value]) -> str:
    """A configuration in a few words: the parts that make it special."""
    weights, ordinary = settings["weights"], ("none", "ce", "sgd")
    chosen = [settings[slot] for slot in ("mix", "generate", "loss")]
    parts = [str(part) for part in chosen if part not in ordinary]
    if weights != "none":
        parts.append(f"{weights} {settings['weights.schedule']}")
    if settings["sampler"] != "instance":
        parts.append(str(settings["sampler"]))
    ends = [settings[slot] for slot in ("optimizer", "after")]
    parts += [str(part) for part in ends if part not in ordinary]
    return " + ".join(parts) or "cross-entropy"
