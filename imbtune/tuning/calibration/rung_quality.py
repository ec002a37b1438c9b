"""How well do a space's rungs predict the finished model? Figures, and what follows from them.

The truth is the full budget with another seed than the rung's, so that a rung cannot gain by being
the same run; the noise floor is what the full budget itself reaches against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbtune.config.train_config import TrainConfig
from imbtune.training.phases import RUNG_KINDS, rung_segments

Floats = NDArray[np.float64]
Made = TypeVar("Made")
CostsOf = Callable[[list[int]], Mapping[tuple[str, int], float]]  # by the rungs in use, rising

USABLE = 0.7  # of the noise floor: a rung that predicts less does harm when it stops trials
SIMILAR = 1.25  # times the least cost: among kinds that cost so little, the one that predicts best
AGREE = 0.5  # the least ρ between two full runs that tells configurations apart
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
class RungQuality:
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
    """Rungs for a search: their kind or `none`, η, how many with the full budget, and the lowest
    in epochs."""

    rungs: str
    eta: int
    count: int
    start: int
    why: str

    @property
    def text(self) -> str:
        """What to type, and why."""
        which = "" if self.rungs == "none" else f" from {self.start} epochs ({self.count} rungs)"
        return f"--rungs {self.rungs}{which}, because {self.why}"


@dataclass(frozen=True)
class Basis:
    """What a calibration holds for.

    settings: of the data, the model, the budget and the objective: a search that follows it must
    have the same. knobs: what each other setting was drawn from, or its value. data: the
    fingerprint of the images.
    """

    settings: Mapping[str, Any]
    knobs: Mapping[str, Any]
    data: str


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
    reports: list[RungQuality]
    advice: Advice
    basis: Basis

    @property
    def chance(self) -> float:
        """The share of the best third that a rung finds by chance."""
        return best_third(self.trials) / self.trials

    def to_dict(self) -> dict[str, Any]:
        """As YAML can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> Calibration:
        """The inverse of `to_dict`; KeyError, TypeError or ValueError for anything else."""
        reports = [_typed(RungQuality, report) for report in content["reports"]]
        advice = _typed(Advice, content["advice"])
        if advice.rungs not in (*RUNG_KINDS, "none") or advice.eta < 2 or advice.count < 1:
            raise ValueError(f"advice: {content['advice']}")
        parts = {"reports": reports, "advice": advice, "basis": _typed(Basis, content["basis"])}
        return _typed(cls, {**content, **parts})


def _typed(kind: type[Made], content: Mapping[str, Any]) -> Made:
    """A dataclass from a mapping that has all of its fields, each of its type, and no others."""
    for name, known in get_type_hints(kind).items():
        wanted = get_origin(known) or known
        fits = isinstance(content[name], (int, float) if wanted is float else wanted)
        if not fits or isinstance(content[name], bool):
            raise TypeError(f"{name}: {content[name]!r}")
    return kind(**content)


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's ρ: Pearson's r of the ranks, ties at their mean; NaN where one is constant."""
    from scipy import stats  # here: it takes a second to import, and a search starts without it

    ranks = stats.rankdata(one), stats.rankdata(other)
    if any(rank.std() == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def recall_of_best(scores: ArrayLike, truth: ArrayLike, k: int) -> float:
    """Share of the k best by `truth` that are among the k best by `scores`; the first of a tie."""
    best = [set(np.argsort(-np.asarray(x), kind="stable")[:k].tolist()) for x in (scores, truth)]
    return len(best[0] & best[1]) / k


def interval(one: Floats, other: Floats) -> tuple[float, float]:
    """The bootstrapped 90 % interval of Spearman's ρ over trials; NaN where one is constant."""
    from scipy import stats

    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(one), (RESAMPLES, len(one)))
    ranks = (stats.rankdata(values[picks], axis=1) for values in (one, other))
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    drawn = (a * b).sum(1)[size > 0] / size[size > 0]  # a resample may be constant
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.percentile(drawn, [5, 95])
    return float(low), float(high)


def mean_costs(configs: Sequence[TrainConfig], budgets: list[int]) -> dict[tuple[str, int], float]:
    """Epochs that a trial has trained when a rung is scored, as a share of a full run, by kind and
    budget; the mean over configurations, whose cool-downs differ."""
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
    """The figures of a calibration's scores, over the trials that have all of them.

    Args:
        costs: :func:`mean_costs` of the configurations, by the rungs in use.
    """
    full = max(score.budget for score in scores)
    columns: dict[tuple[int, str, int], dict[int, float]] = {}
    for s in scores:
        kind = "top" if s.budget == full else s.kind
        columns.setdefault((s.seed, kind, s.budget), {})[s.trial] = s.score
    trials = sorted(set.intersection(*(set(column) for column in columns.values())))
    values = {key: np.array([column[t] for t in trials]) for key, column in columns.items()}
    truth, again = values[1, "top", full], values[0, "top", full]
    every = costs(sorted({budget for _, _, budget in values}))
    reports = [
        RungQuality(
            kind,
            budget,
            spearman(values[0, kind, budget], truth),
            *interval(values[0, kind, budget], truth),
            recall_of_best(values[0, kind, budget], truth, best_third(len(trials))),
            every[kind, budget],
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
        advise(reports, costs, full, floor, eta),
        basis,
    )


def advise(
    reports: Sequence[RungQuality], costs: CostsOf, full: int, floor: float, eta: int
) -> Advice:
    """Rungs for a search of this space.

    A kind is used from its lowest rung on from which all rungs are usable: ρ ≥ 0.7 of the floor,
    and its interval above 0, or it may be chance.
    Its cost is that of a trial with these rungs alone when each passes one of η. Of the kinds that
    cost at most 1.25 times the least, the one whose rungs predict best, by their mean ρ.

    Args:
        full: the full budget. floor: ρ between two full runs.
    """
    found = []
    for kind in sorted({report.kind for report in reports}):
        used = _usable([report for report in reports if report.kind == kind], floor)
        if used:
            budgets = [*(report.budget for report in used), full]
            shares = costs(budgets)
            steps = np.diff([0.0, *(shares[kind, budget] for budget in budgets)])
            found.append((float(sum(step / eta**i for i, step in enumerate(steps))), used))
    if not found:
        why = (
            f"no rung is shown to reach {USABLE:g} of the ρ between two full runs, {floor:.2f}"
            if floor > 0
            else f"two full runs of a configuration do not agree at all (ρ {format_rho(floor)})"
        )
        return Advice("none", eta, 1, full, why)
    least = min(cost for cost, _ in found)
    cost, used = max(
        (pair for pair in found if pair[0] <= SIMILAR * least),
        key=lambda pair: float(np.mean([report.rho for report in pair[1]])),
    )
    why = (
        f"they predict the finished model (ρ {used[0].rho:.2f} at {used[0].budget} epochs, "
        f"{floor:.2f} between two full runs), and a trial costs {cost:.2f} full runs"
    )
    return Advice(used[0].kind, eta, len(used) + 1, used[0].budget, why)


def _usable(rungs: Sequence[RungQuality], floor: float) -> list[RungQuality]:
    """The rungs of one kind, rising, from the first one on from which all are usable."""
    used: list[RungQuality] = []
    for report in reversed(rungs):
        if not (floor > 0 and report.rho >= USABLE * floor and report.low > 0):
            break
        used.insert(0, report)
    return used


def cautions(found: Calibration) -> list[str]:
    """Why the advice may be wrong, a sentence each; none where the figures are clear."""
    if not found.floor >= AGREE:
        return [
            "The seeds agree too little to tell configurations apart (ρ between two full runs "
            f"{format_rho(found.floor)}): more --trials or a longer budget"
        ]
    few = f"{found.trials} trials are too few to be sure"
    if found.advice.rungs == "none":
        unsure = [r for r in found.reports if r.high >= USABLE * found.floor]
        names = [f"{r.kind} at {r.budget}" for r in unsure]
        text = f"{few} that no rung is usable: by their intervals {', '.join(names)} may be"
        return [f"{text}; more --trials tell"] if names else []
    at = {r.kind: r for r in found.reports if r.budget == found.advice.start}
    mine = at.pop(found.advice.rungs)
    names = [kind for kind, r in at.items() if r.low <= mine.high and mine.low <= r.high]
    text = f"{few} of the kind: at {mine.budget} epochs the interval of {mine.kind} overlaps"
    return [f"{text} that of {' and '.join(names)}; more --trials tell"] if names else []


def best_third(trials: int) -> int:
    """How many trials are the best third."""
    return math.ceil(trials / 3)


def format_rho(rho: float) -> str:
    """A correlation as it is printed; a dash for NaN, where all scores were equal."""
    return "–" if math.isnan(rho) else f"{rho:.2f}"
