"""How often the intervals of `imbtune evaluate` and `imbtune threshold` hold the true value.

    python benchmarks/evidence/model_intervals.py evaluate --draws 500
    python benchmarks/evidence/model_intervals.py threshold --draws 500

Labelled images are drawn from a population with known logits: those of an image are normal, and
that of its own class is larger by a lead. Each draw has as many images of each class. The true
values are those of 400,000 images, or, for thresholds, of the normal distributions. Prints a row
of a table for each metric: in how many of 100 draws the 95 % interval holds the true value.

`before` is what `evaluate` did first: bias-corrected percentiles of a bootstrap, whose resamples
have as many images of each class as the data.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from imbtune.errors import ConfigError
from imbtune.inference.decisions.threshold_choice import choose_threshold, threshold_metric
from imbtune.inference.evaluating import metric_intervals as module
from imbtune.metrics.metric import Metric, metric_from
from imbtune.metrics.predictions import ClassCounts, Confusion, Predictions

Floats = NDArray[np.float64]

POPULATION = 400_000  # images
SHARPNESS = 2.0  # of the logits: about calibrated for leads of 2
POPULATIONS = {  # images of each class, lead
    "30 and 30 images": ((30, 30), 1.0),
    "300 and 12 images": ((300, 12), 1.5),
    "8 classes of 60 to 3 images": ((60, 40, 25, 15, 10, 6, 4, 3), 2.5),
}
MEASURED: tuple[object, ...] = (
    "balanced_accuracy",
    "macro_f1",
    "worst_class",
    "mcc",
    "auroc",
    "average_precision",
    "recall_at_precision",
    "log_loss",
    "brier",
    "ece",
)
BEFORE, DRAWN = 60, 100  # resamples, and draws for a standard error

COSTS: dict[str, object] = {
    "a missed one costs 20": {"name": "expected_cost", "costs": [[0, 1], [20, 0]]},
    "a missed one costs 3": {"name": "expected_cost", "costs": [[0, 1], [3, 0]]},
    "F1": {"name": "f_beta", "beta": 1.0, "of": "positive"},
    "balanced accuracy": "balanced_accuracy",
    "recall at precision 0.7": {"name": "recall_at_precision", "precision": 0.7},
}
SIZES = (26, 60, 200, 1000)
POSITIVE = 0.23  # share of the images
DISTANCES = (1.0, 2.5)  # of the two classes' mean log-odds, in standard deviations


def drawn(images: Sequence[int], lead: float, seed: int) -> Predictions:
    """Predictions of so many images of each class."""
    rng = np.random.default_rng(seed)
    labels_N = np.repeat(np.arange(len(images)), images)
    logits_NK = rng.normal(size=(len(labels_N), len(images)))
    logits_NK[np.arange(len(labels_N)), labels_N] += lead
    names = [str(k) for k in range(len(images))]
    return Predictions(
        torch.from_numpy(SHARPNESS * logits_NK), torch.from_numpy(labels_N), names, np.array(images)
    )


def value_of(metric: Metric, predictions: Predictions | Confusion) -> float:
    """A metric that is defined."""
    value = metric.value(predictions)
    assert value is not None
    return value


def percentiles(predictions: Predictions, chosen: Sequence[Metric], seed: int) -> Floats:
    """Ends of the bias-corrected percentile intervals, (metrics, 2); NaN where there is none."""
    rng = np.random.default_rng(seed)
    labels_N = predictions.labels_N.numpy()
    of_class = [np.flatnonzero(labels_N == k) for k in np.unique(labels_N)]
    values_RM = np.empty((BEFORE, len(chosen)))
    for row in values_RM:
        rows = np.concatenate([rng.choice(images, len(images)) for images in of_class])
        kept_N = torch.from_numpy(rows)
        other = Predictions(
            predictions.logits_NK[kept_N],
            predictions.labels_N[kept_N],
            predictions.names,
            predictions.train_K,
        )
        row[:] = [value_of(metric, other) for metric in chosen]
    ends = np.full((len(chosen), 2), np.nan)
    for index, metric in enumerate(chosen):
        values, value = values_RM[:, index], value_of(metric, predictions)
        if values.min() == values.max():
            continue
        below = (values < value).mean() + (values == value).mean() / 2
        bias = norm.ppf(np.clip(below, 1 / BEFORE, 1 - 1 / BEFORE))
        ends[index] = np.quantile(values, norm.cdf(2 * bias + norm.ppf([0.025, 0.975])))
    return ends


def evaluations(draws: int, populations: Sequence[str]) -> None:
    """Print the coverage of the metrics' intervals."""
    chosen = [metric_from(setting) for setting in MEASURED]
    print("| population | metric | true value | before | now | length now |")
    print("|---|---|---|---|---|---|")
    for name in populations:
        images, lead = POPULATIONS[name]
        factor = POPULATION // sum(images)
        whole = drawn([factor * count for count in images], lead, 2**31)
        true = [value_of(metric, whole) for metric in chosen]
        held = np.zeros((len(chosen), 2))
        lengths = np.zeros(len(chosen))
        for seed in range(draws):
            predictions = drawn(images, lead, seed)
            before = percentiles(predictions, chosen, seed)
            with patch.object(module, "all_metrics", return_value=chosen):  # others take time
                now = {found.name: found for found in module.metric_intervals(predictions, DRAWN)}
            for index, metric in enumerate(chosen):
                found = now[metric.name]
                assert found.low is not None and found.high is not None
                low, high = before[index]
                held[index] += (low <= true[index] <= high, found.low <= true[index] <= found.high)
                lengths[index] += found.high - found.low
        for index, metric in enumerate(chosen):
            shares = " | ".join(f"{100 * count / draws:.1f}" for count in held[index])
            length = lengths[index] / draws
            print(
                f"| {name} | {metric} | {true[index]:.3f} | {shares} | {length:.3f} |", flush=True
            )


def true_value(metric: Metric, log_odds: float, distance: float, totals: tuple[int, int]) -> float:
    """A metric of a threshold, for the population."""
    recall, alarm = norm.sf(log_odds - distance / 2), norm.sf(log_odds + distance / 2)
    if metric.name == "recall_at_precision":
        return float(recall)
    positive, other = totals
    matrix_22 = np.array(
        [[other * (1 - alarm), other * alarm], [positive * (1 - recall), positive * recall]]
    )
    return value_of(metric, Confusion.of(matrix_22, np.array([100, 20]), ["other", "positive"]))


def thresholds(draws: int) -> None:
    """Print the coverage of the intervals of thresholds."""
    print("| metric | images | classes apart | holds | length | threshold's interval holds |")
    print("|---|---|---|---|---|---|")
    for name, setting in COSTS.items():
        for images in SIZES:
            for distance in DISTANCES:
                row = of_threshold(threshold_metric(setting), images, distance, draws)
                print(f"| {name} | {images} | {distance:g} | {row} |", flush=True)


def of_threshold(metric: Metric, images: int, distance: float, draws: int) -> str:
    """The cells of a row."""
    positive = round(POSITIVE * images)
    totals = (positive, images - positive)
    labels_N = np.repeat([1, 0], totals)
    counts = ClassCounts(["other", "positive"], np.array([100, 20]), np.array(totals[::-1]))
    best = best_threshold(metric, distance, totals)
    held, lengths, of_best = list[bool](), list[float](), list[bool]()
    for seed in range(draws):
        log_odds_N = np.random.default_rng(seed).normal(distance * (labels_N - 0.5))
        try:
            found = choose_threshold(log_odds_N, labels_N, counts, metric, 1, "drawn")
        except ConfigError:  # no threshold has this precision
            continue
        low, high = found.interval
        true = true_value(metric, found.log_odds, distance, totals)
        held.append(low - 1e-9 <= true <= high + 1e-9)
        lengths.append(high - low)
        lowest, highest = found.log_odds_interval
        of_best.append(lowest <= best <= highest)
    cells = (
        f"{100 * np.mean(held):.1f}",
        f"{np.mean(lengths):.2f}",
        f"{100 * np.mean(of_best):.1f}",
    )
    none = f" ({draws - len(held)} without a threshold)" if len(held) < draws else ""
    return " | ".join(cells) + none


def best_threshold(metric: Metric, distance: float, totals: tuple[int, int]) -> float:
    """The best one of the population."""
    grid = np.linspace(-8, 8, 3201)
    if metric.name == "recall_at_precision":
        hits = totals[0] * norm.sf(grid - distance / 2)
        alarms = totals[1] * norm.sf(grid + distance / 2)
        enough = hits / (hits + alarms) >= metric.number("precision")
        return float(grid[np.argmax(enough)])
    scores = [metric.sign * true_value(metric, at, distance, totals) for at in grid]
    return float(grid[int(np.argmax(scores))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["evaluate", "threshold"])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--population", choices=POPULATIONS, action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "evaluate":
        evaluations(given.draws, given.population or list(POPULATIONS))
    else:
        thresholds(given.draws)


if __name__ == "__main__":
    main()
