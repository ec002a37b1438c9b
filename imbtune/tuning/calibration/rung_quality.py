"""Measures how well the rungs of a space predict the finished model, and recommends rungs.

Each configuration is trained with two seeds. The first run is scored at the rungs of every kind.
The score of the second run at the full budget is the truth that rungs are compared with: being
another run, it gives a rung no credit for the luck of its own seed. The correlation between the two
runs at the full budget (the "noise floor") is the best that a rung can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from imbtune.config.train_config import TrainConfig
from imbtune.study.results.calibration_result import (
    USABLE,
    Advice,
    Basis,
    Calibration,
    RungQuality,
    Score,
    best_third,
    format_rho,
    is_usable,
)
from imbtune.training.phases import RUNG_KINDS, rung_segments
from imbtune.tuning.calibration.rank_statistics import interval, recall_of_best, spearman

# Costs by kind and budget, from the budgets of the rungs, rising: see mean_costs
CostsOf = Callable[[list[int]], Mapping[tuple[str, int], float]]


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
        if not is_usable(report, floor):
            break
        used.insert(0, report)
    return used
