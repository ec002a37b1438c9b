"""The standard error of a score: closed forms, the jackknife, and scores that are 0 or 1."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.metrics.metric import metric_from, metrics, objectives
from imbtune.metrics.metric_registry import Spread
from imbtune.metrics.predictions import ClassCounts, Confusion, Predictions
from imbtune.metrics.score_error import (
    JACKKNIFE_GROUPS,
    KEPT,
    image_groups,
    jackknife_error,
    least_error,
    score_error,
    scores_without_groups,
)

CLOSED = ("balanced_accuracy", "accuracy", "worst_class")


def predictions(counts: list[int], seed: int = 0, signal: float = 1.0) -> Predictions:
    """Normal logits, in which the true class's is larger by `signal`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits = torch.randn(len(labels), len(counts), generator=generator)
    logits[torch.arange(len(labels)), labels] += signal
    names = [f"class {k}" for k in range(len(counts))]
    return Predictions(logits, labels, names, np.arange(len(counts), 0, -1) * 10)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(lambda n: sum(n) > 0))
def test_groups_have_the_same_share_of_every_class(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    groups = image_groups(labels)
    for k, count in enumerate(counts):
        own = groups[labels == k]
        if count < 2:
            assert (own == KEPT).all()
            continue
        sizes = np.bincount(own, minlength=JACKKNIFE_GROUPS)
        assert sizes.max() - sizes.min() <= 1 and sizes.max() < count
    dealt = np.bincount(groups[groups != KEPT])
    assert not len(dealt) or dealt.max() - dealt.min() <= 1
    assert (image_groups(labels) == groups).all()


def test_closed_forms_worked_by_hand() -> None:
    """Recalls 3/4, 0/2 and 1/1: p = 3.5/5, 0.5/3 and 1.5/2."""
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    logits = torch.eye(3)[torch.tensor([0, 0, 0, 1, 0, 0, 2])]
    found = Predictions(logits, labels, ["a", "b", "c"], np.array([9, 5, 1]))
    first, second, third = 0.7 * 0.3 / 4, (1 / 6) * (5 / 6) / 2, 0.75 * 0.25 / 1
    error = {name: score_error(metric_from(name), found) for name in CLOSED}
    assert error["balanced_accuracy"] == pytest.approx(math.sqrt(first + second + third) / 3)
    whole = (4 / 7) ** 2 * first + (2 / 7) ** 2 * second + (1 / 7) ** 2 * third
    assert error["accuracy"] == pytest.approx(math.sqrt(whole))
    assert error["worst_class"] == pytest.approx(math.sqrt(second))


@pytest.mark.parametrize("name", objectives())
@pytest.mark.parametrize("counts", [[30] * 4, [3, 40], [1, 1, 5], [1, 1], [2, 0, 9]])
@pytest.mark.parametrize("signal", [0.0, 1.0, 40.0])
def test_every_objective_has_an_error(name: str, counts: list[int], signal: float) -> None:
    """It is finite, and above 0 also where all images or none are predicted correctly."""
    found, objective = predictions(counts, signal=signal), metric_from(name)
    if objective.score(found) is None:
        pytest.skip("the metric is undefined on these images")
    error = score_error(objective, found)
    assert math.isfinite(error) and error >= 0
    low, high = objective.range_on(found.counts)
    assert error <= (high - low) / 2
    if objective.traits.spread != Spread.UNKNOWN:
        assert error > 0
    else:
        assert name in ("log_loss", "brier", "ece", "expected_cost")  # as docs/metrics.md says


def test_a_recall_that_one_of_two_images_decides_has_an_error_of_at_most_half() -> None:
    """Without one of its two images the recall at precision 1 is 0 or 1."""
    logits_N2 = torch.tensor([[0.0, 5.0], [0.0, 1.0], [0.0, 2.0], *[[3.0, 0.0]] * 17])
    labels_N = torch.tensor([1, 1, *[0] * 18])
    found = Predictions(logits_N2, labels_N, ["a", "b"], np.array([18, 2]))
    objective = metric_from({"name": "recall_at_precision", "precision": 0.6})
    assert objective.score(found) == 1
    scores = scores_without_groups(objective, found)
    assert jackknife_error(np.array(scores)) > 0.5
    assert score_error(objective, found) == 0.5


@pytest.mark.parametrize("name", [part.name for part in metrics if "of" in part.knobs])
def test_the_error_of_one_class_is_that_of_its_own_images(name: str) -> None:
    """Four images, all right: p = 4.5/5. The mean of ten classes would have a tenth of that.

    An area loses a uniform share of one image, not the whole one: a third of the variance.
    """
    found = predictions([100] * 9 + [4], signal=40.0)
    objective = metric_from({"name": name, "of": "class 9"})
    assert objective.score(found) == 1
    share = 1 / 3 if name == "auroc" else 1
    assert score_error(objective, found) == pytest.approx(math.sqrt(share * 0.9 * 0.1 / 4))
    large = score_error(metric_from({"name": name, "of": "class 0"}), found)
    assert large == pytest.approx(math.sqrt(share * 100.5 / 101 * 0.5 / 101 / 100))


def test_the_auroc_of_a_large_class_has_the_error_of_the_few_others() -> None:
    found = predictions([100, 2, 3], signal=40.0)
    error = score_error(metric_from({"name": "auroc", "of": "class 0"}), found)
    variances = 2.5 / 3 * 0.5 / 3 / 2 + 3.5 / 4 * 0.5 / 4 / 3
    assert error == pytest.approx(math.sqrt(variances / 3) / 2)
    assert error > 5 * math.sqrt(100.5 / 101 * 0.5 / 101 / 100)


@pytest.mark.parametrize("name", ["mcc", "cohen_kappa"])
@pytest.mark.parametrize("counts", [[30, 30], [500, 5], [100] * 9 + [4]])
def test_the_least_error_of_an_agreement_is_that_of_almost_perfect_models(
    name: str, counts: list[int]
) -> None:
    """Each image is right with the chance (n + ½)/(n + 1), n of its class."""
    rng, n_K = np.random.default_rng(0), np.array(counts)
    metric, classes, values = metric_from(name), len(counts), []
    for _ in range(2000):
        hits_K = rng.binomial(n_K, (n_K + 0.5) / (n_K + 1))
        matrix_KK = np.diag(hits_K)
        for k, errors in enumerate(n_K - hits_K):
            others = [j for j in range(classes) if j != k]
            matrix_KK[k, others] += rng.multinomial(errors, [1 / len(others)] * len(others))
        values.append(metric.value(Confusion.of(matrix_KK, n_K)))
    counted = ClassCounts([str(k) for k in range(classes)], n_K, n_K)
    spread = np.std([value for value in values if value is not None])
    assert least_error(metric, counted) == pytest.approx(spread, rel=0.15)


def literal(objective: Any, found: Predictions) -> list[float | None]:
    """The scores without each group, one image after the other."""
    groups = image_groups(found.labels_N.numpy())
    scores = []
    for group in range(groups.max() + 1):
        kept = [i for i in range(len(groups)) if groups[i] != group]
        part = Predictions(found.logits_NK[kept], found.labels_N[kept], found.names, found.train_K)
        scores.append(objective.score(part))
    return scores


@pytest.mark.parametrize("name", objectives())
def test_scores_without_groups_are_the_scores_of_the_other_images(name: str) -> None:
    found, objective = predictions([25, 7, 1]), metric_from(name)
    assert scores_without_groups(objective, found) == pytest.approx(literal(objective, found))


@pytest.mark.parametrize("name", ["macro_f1", "auroc", "average_precision", "log_loss", "mcc"])
def test_the_jackknife_is_near_the_spread_of_new_images(name: str) -> None:
    objective, counts = metric_from(name), [60, 60]
    scores = [objective.score(predictions(counts, seed)) for seed in range(300)]
    errors = [score_error(objective, predictions(counts, seed)) for seed in range(30)]
    assert np.mean(errors) == pytest.approx(np.std([s for s in scores if s is not None]), rel=0.15)


@pytest.mark.parametrize("name", CLOSED[:2])
def test_closed_form_and_jackknife_agree(name: str) -> None:
    objective = metric_from(name)
    models = [predictions([40] * 5, seed) for seed in range(20)]
    closed = np.mean([score_error(objective, model) for model in models])
    without = [scores_without_groups(objective, model) for model in models]
    jackknifed = np.mean([jackknife_error(np.array(scores)) for scores in without])
    assert jackknifed == pytest.approx(closed, rel=0.1)
