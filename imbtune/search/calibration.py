"""How well do a space's rungs predict the finished model? Figures, and what follows from them.

The truth is the full budget with another seed than the rung's, so that a rung cannot gain by being
the same run; the noise floor is what the full budget itself reaches against it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from imbtune.config import TrainConfig
from imbtune.training.progress import RUNG_KINDS, stretches

Floats = NDArray[np.float64]

USABLE = 0.7  # of the noise floor: a rung that predicts less does harm when it stops trials
SIMILAR = 1.25  # times the least cost: among kinds that cost so little, the one that predicts best
RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """One score of a calibration run."""

    trial: int
    seed: int  # 0: scored at every rung; 1: at the full budget alone
    kind: str
    budget: int
    score: float


@dataclass(frozen=True)
class RungReport:
    """What a rung's scores say of the full budget's.

    rho: Spearman's ρ with the truth, in [-1, 1]; low, high: its bootstrapped 90 % interval. recall:
    share of the best third that is in the rung's best third. cost: epochs until there, as a share
    of a full run.
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
    """Rungs for a search: their kind or `none`, η, and how many with the full budget."""

    rungs: str
    eta: int
    count: int
    why: str


@dataclass(frozen=True)
class Calibration:
    """All figures of a calibration.

    floor: ρ between two seeds of the full budget, with its interval. spread: standard deviation of
    one run's score about its configuration's mean. reports: by kind, rising budgets.
    """

    trials: int
    full_budget: int
    floor: float
    floor_low: float
    floor_high: float
    spread: float
    reports: list[RungReport]
    advice: Advice
    settings: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As YAML can hold it."""
        return asdict(self)


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's ρ: Pearson's r of the ranks, ties at their mean; NaN where one is constant."""
    ranks = stats.rankdata(one), stats.rankdata(other)
    if any(rank.std() == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def recall_of_best(scores: ArrayLike, truth: ArrayLike, k: int) -> float:
    """Share of the k best by `truth` that are among the k best by `scores`; the first of a tie."""
    best = [set(np.argsort(-np.asarray(x), kind="stable")[:k].tolist()) for x in (scores, truth)]
    return len(best[0] & best[1]) / k


def interval(one: Floats, other: Floats) -> tuple[float, float]:
    """The bootstrapped 90 % interval of Spearman's ρ over trials."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(one), (RESAMPLES, len(one)))
    drawn = [spearman(one[pick], other[pick]) for pick in picks]
    low, high = np.nanpercentile(drawn, [5, 95])
    return float(low), float(high)


def mean_costs(configs: Sequence[TrainConfig], budgets: list[int]) -> dict[tuple[str, int], float]:
    """Epochs that a trial has trained when a rung is scored, as a share of a full run, by kind and
    budget; the mean over configurations, whose cool-downs differ."""
    found: dict[tuple[str, int], float] = {}
    for kind in RUNG_KINDS:
        paths = [stretches(kind, budgets, config.schedule.shared) for config in configs]
        each = np.cumsum([[stretch.cost for stretch in path] for path in paths], axis=1)
        shares = each.mean(0) / budgets[-1]
        found |= {(kind, budget): float(c) for budget, c in zip(budgets, shares, strict=True)}
    return found


def calibrate(
    scores: Sequence[Score],
    costs: Mapping[tuple[str, int], float],
    eta: int,
    settings: Mapping[str, Any],
) -> Calibration:
    """The figures of a calibration's scores, over the trials that have all of them.

    Args:
        costs: of :func:`mean_costs`.
        settings: what the calibration holds for: data, model, epochs.
    """
    full = max(score.budget for score in scores)
    columns: dict[tuple[int, str, int], dict[int, float]] = {}
    for s in scores:
        kind = "top" if s.budget == full else s.kind
        columns.setdefault((s.seed, kind, s.budget), {})[s.trial] = s.score
    trials = sorted(set.intersection(*(set(column) for column in columns.values())))
    values = {key: np.array([column[t] for t in trials]) for key, column in columns.items()}
    truth, again = values[1, "top", full], values[0, "top", full]
    best = math.ceil(len(trials) / 3)
    reports = [
        RungReport(
            kind,
            budget,
            spearman(values[0, kind, budget], truth),
            *interval(values[0, kind, budget], truth),
            recall_of_best(values[0, kind, budget], truth, best),
            costs[kind, budget],
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
        advise(reports, costs, floor, eta),
        settings,
    )


def advise(
    reports: Sequence[RungReport], costs: Mapping[tuple[str, int], float], floor: float, eta: int
) -> Advice:
    """Rungs for a search of this space.

    A kind is used from its lowest rung on from which all rungs are usable, ρ ≥ 0.7 of the floor.
    Its cost is that of a trial when each rung passes one of η. Of the kinds that cost at most 1.25
    times the least, the one whose rungs predict best, by their mean ρ.
    """
    found = []
    for kind in sorted({report.kind for report in reports}):
        used = _usable([report for report in reports if report.kind == kind], floor)
        if used:
            top = max(cost for (name, _), cost in costs.items() if name == kind)
            steps = np.diff([0.0, *(report.cost for report in used), top])
            cost = float(sum(step / eta**i for i, step in enumerate(steps)))
            found.append((cost, used))
    if not found:
        why = f"no rung reaches {USABLE:g} of the ρ between two full runs, {floor:.2f}"
        return Advice("none", eta, 1, why)
    least = min(cost for cost, _ in found)
    cost, used = max(
        (pair for pair in found if pair[0] <= SIMILAR * least),
        key=lambda pair: float(np.mean([report.rho for report in pair[1]])),
    )
    why = (
        f"{used[0].kind} rungs from {used[0].budget} epochs on predict the finished model "
        f"(ρ {used[0].rho:.2f} there, {floor:.2f} between two full runs), and a trial costs "
        f"{cost:.2f} full runs"
    )
    return Advice(used[0].kind, eta, len(used) + 1, why)


def _usable(rungs: Sequence[RungReport], floor: float) -> list[RungReport]:
    """The rungs of one kind, rising, from the first one on from which all are usable."""
    used: list[RungReport] = []
    for report in reversed(rungs):
        if not (floor > 0 and report.rho >= USABLE * floor):
            break
        used.insert(0, report)
    return used
