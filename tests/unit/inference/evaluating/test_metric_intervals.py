"""Every metric with its interval: values, coverage, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from imbtune.inference.evaluating.metric_intervals import (
    class_rows,
    default_resamples,
    metric_intervals,
)
from imbtune.metrics.intervals import wilson
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Predictions

NAMES = ["a", "b", "c"]
TRAIN = np.array([50, 20, 5])


def drawn(counts: list[int], seed: int, lead: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels_N = np.repeat(np.arange(len(counts)), counts)
    logits_NK = rng.normal(size=(len(labels_N), len(counts)))
    logits_NK[np.arange(len(labels_N)), labels_N] += lead
    return torch.from_numpy(logits_NK), torch.from_numpy(labels_N)


def test_the_values_are_those_of_all_metrics() -> None:
    logits_NK, labels_N = drawn([12, 9, 7], 0)
    found = metric_intervals(logits_NK, labels_N, logits_NK.argmax(1), NAMES, TRAIN, 30)
    expected = compute(Predictions(logits_NK, labels_N, NAMES, TRAIN))
    values = {name: value for name, value in expected.items() if value is not None}
    assert {interval.name: interval.value for interval in found} == values
    for interval in found:
        if interval.low is not None and interval.high is not None:
            assert interval.low <= interval.high
    again = metric_intervals(logits_NK, labels_N, logits_NK.argmax(1), NAMES, TRAIN, 30)
    assert again == found


def test_predictions_of_a_threshold_count() -> None:
    """Those of the matrix; the ranking stays that of the logits."""
    logits_NK, labels_N = drawn([12, 9], 0)
    same, other = (
        {
            interval.name: interval.value
            for interval in metric_intervals(
                logits_NK, labels_N, predicted_N, NAMES[:2], TRAIN[:2], 0
            )
        }
        for predicted_N in (logits_NK.argmax(1), torch.ones_like(labels_N))
    )
    assert other["accuracy"] == 9 / 21
    assert other["auroc"] == same["auroc"]


def test_the_interval_holds_the_true_value() -> None:
    """Of the AUROC of two normal distributions, in 40 draws of 80 images.

    The chance of fewer than 33 of 40 at 95 % is 0.1 %.
    """
    true, held = float(norm.cdf(1.0)), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels_N = np.repeat([0, 1], 40)
        z_N = rng.normal(np.where(labels_N == 1, 1.0, -1.0) / 2**0.5)
        logits_NK = torch.from_numpy(np.stack([np.zeros(80), z_N], 1))
        labels = torch.from_numpy(labels_N)
        found = metric_intervals(logits_NK, labels, logits_NK.argmax(1), NAMES[:2], TRAIN[:2], 40)
        (auroc,) = (interval for interval in found if interval.name == "auroc")
        assert auroc.low is not None and auroc.high is not None
        held += auroc.low <= true <= auroc.high
    assert held >= 33


@pytest.mark.parametrize("resamples", [60, 250])
def test_no_interval_where_nothing_can_change(resamples: int) -> None:
    """Without an error every resample is perfect, which is no knowledge of other images."""
    labels_N = torch.arange(3).repeat(5)
    logits_NK = 9 * torch.nn.functional.one_hot(labels_N).double()
    found = metric_intervals(logits_NK, labels_N, labels_N, NAMES, TRAIN, resamples)
    by_name = {interval.name: interval for interval in found}
    assert by_name["accuracy"].value == 1
    assert (by_name["accuracy"].low, by_name["accuracy"].high) == (None, None)


def test_each_class_against_the_others() -> None:
    logits_NK, labels_N = drawn([12, 9, 0], 3)
    predicted_N = logits_NK.argmax(1)
    rows = class_rows(logits_NK, labels_N, predicted_N, NAMES, TRAIN)
    assert [row.name for row in rows] == NAMES
    assert [row.images for row in rows] == [12, 9, 0]
    assert [row.train for row in rows] == [50, 20, 5]
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels_N, predicted_N, labels=[0, 1, 2], zero_division=0
    )
    p_NK = logits_NK.softmax(1).numpy()
    for k in (0, 1):
        assert rows[k].recall == pytest.approx(recall[k])
        assert rows[k].precision == pytest.approx(precision[k])
        assert rows[k].f1 == pytest.approx(f1[k])
        assert rows[k].auroc == pytest.approx(roc_auc_score(labels_N == k, p_NK[:, k]))
        low, high = rows[k].recall_low, rows[k].recall_high
        assert low is not None and high is not None
        assert low < recall[k] < high
    empty = rows[2]
    undefined = (empty.recall, empty.recall_low, empty.f1, empty.auroc, empty.average_precision)
    assert undefined == (None,) * 5
    assert empty.precision == 0


def test_wilson() -> None:
    """The formula, for 8 of 10; and what 10 of 10 leave open."""
    p, n, z = 0.8, 10, 1.959964
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = ((p + z**2 / (2 * n) + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert wilson(8, 10) == pytest.approx((low, high), abs=1e-5)
    assert wilson(10, 10)[0] == pytest.approx(0.722, abs=1e-3)
    assert wilson(0, 0) == (None, None)


def test_fewer_resamples_of_more_images() -> None:
    sizes = ((400, 10), (10_000, 100), (50_000, 1000))
    assert [default_resamples(torch.empty(*size, device="meta")) for size in sizes] == [
        400,
        100,
        40,
    ]
