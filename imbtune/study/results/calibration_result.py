"""The result of a calibration: how well each rung predicts the finished model, and the advice.

Reading it loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

from imbtune.metrics.metric import Metric
from imbtune.metrics.number_text import as_text
from imbtune.training.phases import RUNG_KINDS

Made = TypeVar("Made")

FILE = "calibration.yaml"
USABLE = 0.7  # a rung is usable if its ρ is at least this share of the noise floor
AGREE = 0.5  # with a lower ρ between two full runs, configurations cannot be told apart


@dataclass(frozen=True)
class Score:
    """A score of a calibration run; the columns of `scores/*.parquet`."""

    trial: int
    seed: int  # 0: run that is scored at every rung; 1: only at the full budget
    kind: str
    budget: int
    score: float


@dataclass(frozen=True)
class RungQuality:
    """How well the scores at a rung predict those at the full budget.

    Attributes:
        kind: `cooldown`, `compressed` or `prefix`.
        budget: of the rung, in epochs.
        rho: Spearman's ρ with the truth, in [-1, 1].
        low, high: bootstrapped 90 % interval of `rho`.
        recall: share of the truly best third of the trials that is among the rung's best third.
        cost: mean epochs that a trial trains in a search with rungs of this kind from this one on,
            divided by those of a full run.
    """

    kind: str
    budget: int
    rho: float
    low: float
    high: float
    recall: float
    cost: float


@dataclass(frozen=True)
class Advice:
    """Recommended rungs for a search.

    Attributes:
        rungs: their kind, or `none` for no early stopping.
        eta: η, the reduction factor.
        count: number of rungs, including the full budget.
        start: the lowest rung in epochs.
        why: the reason, in words.
    """

    rungs: str
    eta: int
    count: int
    start: int
    why: str

    @property
    def text(self) -> str:
        """The option for `imbtune search`, and the reason."""
        which = "" if self.rungs == "none" else f" from {self.start} epochs ({self.count} rungs)"
        return f"--rungs {self.rungs}{which}, because {self.why}"


@dataclass(frozen=True)
class Basis:
    """What a calibration is valid for.

    Attributes:
        settings: of the data, the model, the budget and the objective. A search that applies the
            calibration must have the same.
        knobs: for every other setting, the range that it was drawn from, or its value.
        data: the fingerprint of the images.
    """

    settings: Mapping[str, object]
    knobs: Mapping[str, object]
    data: str


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration.

    Attributes:
        trials: configurations whose two runs finished.
        full_budget: in epochs.
        floor: Spearman's ρ between the two runs at the full budget (the "noise floor").
        floor_low, floor_high: bootstrapped 90 % interval of `floor`.
        spread: standard deviation of a run's score over seeds, for one configuration.
        reports: one per rung, by kind and rising budget.
        advice: recommended rungs.
        basis: the settings and images that the result is valid for.
    """

    trials: int
    full_budget: int
    floor: float
    floor_low: float
    floor_high: float
    spread: float
    reports: list[RungQuality]
    advice: Advice
    basis: Basis

    @property
    def chance(self) -> float:
        """The `recall` of a rung whose scores are random."""
        return best_third(self.trials) / self.trials

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as calibration.yaml holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, or has another type or value.
        """
        reports = [_typed(RungQuality, report) for report in content["reports"]]
        advice = _typed(Advice, content["advice"])
        if advice.rungs not in (*RUNG_KINDS, "none") or advice.eta < 2 or advice.count < 1:
            raise ValueError(f"advice: {content['advice']}")
        parts = {"reports": reports, "advice": advice, "basis": _typed(Basis, content["basis"])}
        return _typed(cls, {**content, **parts})


def _typed(kind: type[Made], content: Mapping[str, Any]) -> Made:
    """Make a dataclass from a mapping that has exactly its fields, with values of their types."""
    for name, hint in get_type_hints(kind).items():
        wanted = get_origin(hint) or hint
        fits = isinstance(content[name], (int, float) if wanted is float else wanted)
        if not fits or isinstance(content[name], bool):
            raise TypeError(f"{name}: {content[name]!r}")
    return kind(**content)


def cautions(found: Calibration) -> list[str]:
    """Reasons why the advice may be wrong, without full stops; empty for a clear result."""
    if not found.floor >= AGREE:
        return [
            "Two runs of the same configuration score too differently to tell configurations apart "
            f"(ρ between two full runs is {format_rho(found.floor)}): give more --trials or a "
            "longer budget"
        ]
    few = f"{found.trials} trials are too few to be sure"
    fix = "give more --trials for a clear result"
    if found.advice.rungs == "none":
        unsure = [r for r in found.reports if r.high >= USABLE * found.floor]
        names = [f"{r.kind} at {r.budget} epochs" for r in unsure]
        text = f"{few} that no rung is usable: the intervals of {', '.join(names)} allow it"
        return [f"{text}; {fix}"] if names else []
    at_start = {r.kind: r for r in found.reports if r.budget == found.advice.start}
    advised = at_start.pop(found.advice.rungs)
    names = [
        kind for kind, r in at_start.items() if r.low <= advised.high and advised.low <= r.high
    ]
    text = (
        f"{few} which kind of rung is best: at {advised.budget} epochs, the interval of "
        f"{advised.kind} overlaps"
    )
    return [f"{text} that of {' and '.join(names)}; {fix}"] if names else []


def best_third(trials: int) -> int:
    """The number of trials in the best third, rounded up."""
    return math.ceil(trials / 3)


def format_rho(rho: float) -> str:
    """A correlation with two decimals; a dash for NaN, where all scores are equal."""
    return "–" if math.isnan(rho) else as_text(rho, ".2f")


HEADINGS = (
    "rungs",
    "epochs",
    "ρ",
    "90 % interval",
    "best third found",
    "cost of a trial",
)  # of `table_of`; the first column has names, the others numbers


def table_of(found: Calibration) -> list[tuple[str, ...]]:
    """The table of the rungs in words, a line per rung; the last two are what to compare with."""
    lines = [
        (
            rung.kind,
            str(rung.budget),
            format_rho(rung.rho),
            f"{format_rho(rung.low)} to {format_rho(rung.high)}",
            f"{rung.recall:.0%}",
            f"{rung.cost:.2f}",
        )
        for rung in found.reports
    ]
    floor = f"{format_rho(found.floor_low)} to {format_rho(found.floor_high)}"
    return [
        *lines,
        ("(noise floor)", str(found.full_budget), format_rho(found.floor), floor, "", ""),
        ("(by chance)", "", "0.00", "", f"{found.chance:.0%}", ""),
    ]


def notes_of(found: Calibration, planned: int, objective: Metric) -> list[str]:
    """What a reader must know to understand the table, a sentence or two each.

    Args:
        planned: configurations that the calibration was to train.
        objective: what a score is.
    """
    failed = planned - found.trials
    return [
        "ρ: Spearman's rank correlation with the full run of the other seed",
        "cost of a trial: in full runs, on average, if a search has the rungs of this kind from "
        "this one on",
        *([f"{failed} of {planned} trials failed and are left out."] if failed else []),
        f"A configuration's score varies by ±{objective.difference(found.spread).lstrip('+')} from "
        "seed to seed.",
    ]


def is_usable(rung: RungQuality, floor: float) -> bool:
    """Whether a rung predicts the finished model well enough, looked at alone.

    Args:
        floor: ρ between two full runs.
    """
    return floor > 0 and rung.rho >= USABLE * floor and rung.low > 0
