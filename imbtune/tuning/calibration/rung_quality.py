"""Measures how well the rungs of a space predict the finished model, and recommends rungs.

Each configuration is trained with two seeds. The first run is scored at the rungs of every kind.
The score of the second run at the full budget is the truth that rungs are compared with: being
another run, it gives a rung no credit for the luck of its own seed. The correlation between the two
runs at the full budget (the "noise floor") is the best that a rung can be expected to reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from imbtune.config.train_config import TrainConfig
from imbtune.training.phases import RUNG_KINDS, rung_segments
from imbtune.tuning.calibration.rank_statistics import interval, recall_of_best, spearman

Made = TypeVar("Made")
# Costs by kind and budget, from the budgets of the rungs, rising: see mean_costs
CostsOf = Callable[[list[int]], Mapping[tuple[str, int], float]]

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


def mean_costs(configs: Sequence[TrainConfig], budgets: list[int]) -> dict[tuple[str, int], float]:
    """Epochs that a trial has trained when a rung is scored, divided by those of a full run.

    Args:
        configs: the mean over them is returned, since their cool-downs differ in length.
        budgets: the rungs in epochs, rising; the last is the full budget.

    Returns:
        The costs by kind and budget.
    """
    found: dict[tuple[str, int], float] = {}
    for kind in RUNG_KINDS:
        paths = [rung_segments(kind, budgets, config.schedule.shared) for config in configs]
        each = np.cumsum([[segment.cost for segment in path] for path in paths], axis=1)
        shares = each.mean(0) / budgets[-1]
        found |= {(kind, budget): float(c) for budget, c in zip(budgets, shares, strict=True)}
    return found


def calibrate(
    scores: Sequence[Score],
    costs: CostsOf,
    eta: int,
    basis: Basis,
) -> Calibration:
    """Compute the result of a calibration, over the trials that have all scores.

    Args:
        costs: :func:`mean_costs` of the configurations, as a function of the budgets.
        eta: η of the space's rungs.
        basis: what the result is valid for.
    """
    full = max(score.budget for score in scores)
    columns: dict[tuple[int, str, int], dict[int, float]] = {}
    for s in scores:
        kind = "top" if s.budget == full else s.kind
        columns.setdefault((s.seed, kind, s.budget), {})[s.trial] = s.score
    trials = sorted(set.intersection(*(set(column) for column in columns.values())))
    values = {key: np.array([column[t] for t in trials]) for key, column in columns.items()}
    truth, again = values[1, "top", full], values[0, "top", full]
    budgets = sorted({budget for _, _, budget in values})
    reports = [
        RungQuality(
            kind,
            budget,
            spearman(values[0, kind, budget], truth),
            *interval(values[0, kind, budget], truth),
            recall_of_best(values[0, kind, budget], truth, best_third(len(trials))),
            trial_cost(kind, budgets[budgets.index(budget) :], costs, eta),
        )
        for _, kind, budget in sorted(values)
        if kind != "top"
    ]
    floor = spearman(again, truth)
    return Calibration(
        len(trials),
        full,
        floor,
        *interval(again, truth),
        float(np.sqrt(np.mean((again - truth) ** 2) / 2)),
        reports,
        advise(reports, full, floor, eta),
        basis,
    )


def trial_cost(kind: str, budgets: Sequence[int], costs: CostsOf, eta: int) -> float:
    """Mean epochs of a trial, divided by those of a full run, if 1/η go on after each rung.

    Args:
        kind: of the rungs.
        budgets: of the rungs that a search uses, in epochs, rising to the full budget.
        costs: :func:`mean_costs` of the configurations, as a function of the budgets.
        eta: η, the reduction factor.
    """
    shares = costs([*budgets])
    steps = np.diff([0.0, *(shares[kind, budget] for budget in budgets)])
    return float(sum(step / eta**i for i, step in enumerate(steps)))


def advise(reports: Sequence[RungQuality], full: int, floor: float, eta: int) -> Advice:
    """Recommend rungs for a search, by the rows of the table that is printed.

    A rung is usable if its ρ is at least 0.7 of the noise floor, the interval of its ρ lies above
    0, and all higher rungs of its kind are usable. The lowest budget at which some kind is usable
    is recommended, and among the kinds that are usable there the one with the highest ρ. Where two
    have the same ρ, to the two decimals that are printed, it is the one that costs less.

    Args:
        reports: of all rungs below the full budget.
        full: the full budget in epochs.
        floor: ρ between two full runs.
        eta: η, the reduction factor.
    """
    usable = [
        report
        for kind in sorted({report.kind for report in reports})
        for report in _usable([report for report in reports if report.kind == kind], floor)
    ]
    if not usable:
        why = (
            f"no rung is proven to predict the finished model: none reaches ρ = "
            f"{USABLE * floor:.2f}, i.e. {USABLE:g} of the {floor:.2f} between two full runs"
            if floor > 0
            else "the scores of two full runs of the same configurations do not correlate "
            f"(ρ {format_rho(floor)})"
        )
        return Advice("none", eta, 1, full, why)
    start = min(report.budget for report in usable)
    first = [report for report in usable if report.budget == start]
    best = min(first, key=lambda report: (-round(report.rho, 2), report.cost))
    others = "" if len(first) == 1 else ", the highest of the usable kinds"
    why = (
        f"these rungs predict the finished model (ρ {best.rho:.2f} at {start} epochs{others}; "
        f"{floor:.2f} between two full runs), and a trial costs {best.cost:.2f} full runs on "
        "average"
    )
    count = sum(report.kind == best.kind for report in usable) + 1
    return Advice(best.kind, eta, count, start, why)


def _usable(rungs: Sequence[RungQuality], floor: float) -> list[RungQuality]:
    """The longest run of usable rungs that ends with the highest one.

    Args:
        rungs: of one kind.
    """
    used: list[RungQuality] = []
    for report in sorted(rungs, key=lambda report: -report.budget):
        if not (floor > 0 and report.rho >= USABLE * floor and report.low > 0):
            break
        used.insert(0, report)
    return used


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
    return "–" if math.isnan(rho) else f"{rho:.2f}"
