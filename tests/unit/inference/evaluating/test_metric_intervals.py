"""Every metric with its interval: values, coverage, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import t as scipy_t
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from imbtune.inference.evaluating.metric_intervals import (
    MetricInterval,
    class_rows,
    default_resamples,
    metric_intervals,
)
from imbtune.metrics.intervals import bounded_interval, positive_interval, wilson
from imbtune.metrics.metric import compute, metric_from
from imbtune.metrics.predictions import Predictions, confusion_matrix

NAMES = ["a", "b", "c"]
TRAIN = np.array([50, 20, 5])


def drawn(counts: list[int], seed: int, lead: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels_N = np.repeat(np.arange(len(counts)), counts)
    logits_NK = rng.normal(size=(len(labels_N), len(counts)))
    logits_NK[np.arange(len(labels_N)), labels_N] += lead
    return torch.from_numpy(logits_NK), torch.from_numpy(labels_N)


def predictions(logits_NK: torch.Tensor, labels_N: torch.Tensor) -> Predictions:
    classes = logits_NK.shape[1]
    return Predictions(logits_NK, labels_N, NAMES[:classes], TRAIN[:classes])


def by_name(found: list[MetricInterval]) -> dict[str, MetricInterval]:
    return {interval.name: interval for interval in found}


def test_the_values_are_those_of_all_metrics() -> None:
    """`top_k` with 5 of 3 classes tells nothing, and is left out."""
    given = predictions(*drawn([12, 9, 7], 0))
    found = metric_intervals(given, 30)
    values = {name: value for name, value in compute(given).items() if value is not None}
    assert "top_k" not in values
    assert {interval.name: interval.value for interval in found} == values
    for interval in found:
        assert interval.low is not None and interval.high is not None
        assert interval.low <= interval.high
        if interval.name != "ece":  # without what calibrated probabilities would have
            assert interval.low <= interval.value <= interval.high
    assert metric_intervals(given, 30) == found
    assert {interval.low for interval in metric_intervals(given, 0)} == {None}


@pytest.mark.parametrize("images", [1, 30])
def test_a_group_counts_the_images_of_its_own_classes(images: int) -> None:
    """`few` is class c alone, `medium` a and b, whose interval c does not change."""
    given = predictions(*drawn([19, 40, images], 0))
    found, rows = by_name(metric_intervals(given, 200)), class_rows(given)
    few, medium = found["few"], found["medium"]
    assert (few.value, few.low, few.high) == pytest.approx(
        (rows[2].recall, rows[2].recall_low, rows[2].recall_high)
    )
    assert medium.low is not None and medium.high is not None
    assert 0.2 < medium.high - medium.low < 0.3  # the standard error is 0.064


def test_objectives_have_their_own_knobs() -> None:
    given = predictions(*drawn([12, 9, 7], 0))
    chosen = [
        metric_from({"name": "recall_at_precision", "precision": 0.4, "of": "b"}),
        metric_from({"name": "top_k", "k": 2}),
    ]
    found = by_name(metric_intervals(given, 2, chosen))
    assert found["recall_at_precision"].value == chosen[0].value(given)
    assert found["recall_at_precision"].title == "recall_at_precision (precision ≥ 0.4, of 'b')"
    assert found["top_k"].value == chosen[1].value(given)
    assert found["auroc"].title == "auroc"


def test_two_classes_name_the_positive_one() -> None:
    found = by_name(metric_intervals(predictions(*drawn([12, 9], 0)), 2))
    titles = {name: interval.title for name, interval in found.items()}
    assert titles["auroc"] == "auroc (of 'b')"  # fewer training images
    assert titles["average_precision"] == "average_precision (of 'b')"
    assert titles["precision_at_recall"] == "precision_at_recall (recall ≥ 0.9, of 'b')"
    assert titles["f_beta"] == "f_beta (beta 2)"
    assert titles["expected_cost"] == "expected_cost (1 an error)"
    assert titles["accuracy"] == "accuracy"


def test_predictions_of_a_threshold_count() -> None:
    """Those of the matrix; the ranking stays that of the logits."""
    given = predictions(*drawn([12, 9], 0))
    all_b = confusion_matrix(given.labels_N, torch.ones_like(given.labels_N), 2)
    decided = Predictions(given.logits_NK, given.labels_N, NAMES[:2], TRAIN[:2], all_b)
    same, other = (by_name(metric_intervals(one, 0)) for one in (given, decided))
    assert other["accuracy"].value == 9 / 21
    assert other["auroc"].value == same["auroc"].value


@pytest.mark.parametrize("counts", [(20, 20), (60, 6)])
def test_the_intervals_hold_the_true_values(counts: tuple[int, int]) -> None:
    """In 14 draws. The chance of fewer than 11 of 14 at 95 % is 0.4 %."""
    names = ("balanced_accuracy", "macro_f1", "auroc", "log_loss", "expected_cost")
    factor = 100_000 // sum(counts)
    whole = predictions(*drawn([factor * count for count in counts], 99, 1.5))
    true = {name: metric_from(name).value(whole) for name in names}
    held = dict.fromkeys(names, 0)
    for seed in range(14):
        found = by_name(metric_intervals(predictions(*drawn(list(counts), seed, 1.5)), 20))
        for name, value in true.items():
            low, high = found[name].low, found[name].high
            assert low is not None and high is not None and value is not None
            held[name] += low <= value <= high
    assert min(held.values()) >= 11, held


def test_without_an_error_the_interval_is_not_a_point() -> None:
    """Other images may have errors: five of a class leave its recall uncertain."""
    labels_N = torch.arange(3).repeat(5)
    logits_NK = 9 * torch.nn.functional.one_hot(labels_N).double()
    found = by_name(metric_intervals(predictions(logits_NK, labels_N), 60))
    for name in ("accuracy", "balanced_accuracy", "worst_class", "auroc", "average_precision"):
        interval = found[name]
        assert (interval.value, interval.high) == (1, 1)
        assert interval.low is not None
        assert 0.2 < interval.low < 0.97, name
    cost = found["expected_cost"]
    assert (cost.value, cost.low) == (0, 0)
    assert cost.high is not None
    assert cost.high > 0.05
    points = {n for n, i in found.items() if i.high is not None and i.high - (i.low or 0) < 1e-6}
    assert points == {"log_loss", "brier", "ece"}  # as docs/models.md says


def test_a_precision_that_is_not_certain() -> None:
    """Four right ones of four are no proof of a precision of 0.9; forty are."""
    for count, certain in ((4, False), (60, True)):
        labels_N = torch.arange(2).repeat_interleave(count)
        logits_NK = 9 * torch.nn.functional.one_hot(labels_N).double()
        found = by_name(metric_intervals(predictions(logits_NK, labels_N), 20))
        low = found["recall_at_precision"].low
        assert low is not None
        assert (low > 0.5) == certain


def test_the_ece_of_calibrated_probabilities_may_be_zero() -> None:
    """That of few images is above 0 by chance. In 8 draws; one of them may be an unusual one."""
    lows = list[float]()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        p_N = rng.uniform(0.5, 1, 60)
        labels_N = torch.from_numpy((rng.random(60) < p_N).astype(np.int64))
        logits_NK = torch.from_numpy(np.stack([np.zeros(60), np.log(p_N / (1 - p_N))], 1))
        found = by_name(metric_intervals(predictions(logits_NK, labels_N), 10))["ece"]
        assert found.value > 0.05
        assert found.low is not None
        lows.append(found.low)
    assert sum(low < 0.03 for low in lows) >= 6


def test_each_class_against_the_others() -> None:
    logits_NK, labels_N = drawn([12, 9, 0], 3)
    predicted_N = logits_NK.argmax(1)
    rows = class_rows(Predictions(logits_NK, labels_N, NAMES, TRAIN))
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


def test_an_effective_number_of_images() -> None:
    """For a share it is that of the images: Wilson's, with Student's t."""
    error = (0.8 * 10 + 0.5) / 11
    error = (error * (1 - error) / 10) ** 0.5
    low, high = bounded_interval(0.8, error)
    t = float(scipy_t.ppf(0.975, 9))
    half = t * (0.8 * 0.2 / 10 + t**2 / 400) ** 0.5
    centre, more = 0.8 + t**2 / 20, 1 + t**2 / 10
    assert (low, high) == pytest.approx(((centre - half) / more, (centre + half) / more), abs=1e-6)
    assert bounded_interval(16, 20 * error, 0, 20) == pytest.approx((20 * low, 20 * high), rel=1e-6)
    assert bounded_interval(1, 0.05)[1] == 1
    assert bounded_interval(0, 0.05)[0] == 0
    assert bounded_interval(0.4, 0) == (0.4, 0.4)
    assert positive_interval(2, 0) == (2, 2)
    low, high = positive_interval(2, 0.5)
    assert (low * high, high / low) == pytest.approx((4, np.exp(2 * 1.959964 * 0.25)), rel=1e-5)


def test_fewer_resamples_of_more_images() -> None:
    sizes = ((400, 10), (10_000, 100), (50_000, 100), (50_000, 1000))
    assert [default_resamples(torch.empty(*size, device="meta")) for size in sizes] == [
        200,
        100,
        40,
        20,
    ]
