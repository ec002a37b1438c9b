"""Thresholds of two classes: the best one, its uncertainty, its file, and what is refused."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from data_files import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from imbtune.errors import ConfigError
from imbtune.inference.decisions import threshold_choice
from imbtune.inference.decisions.threshold import (
    Threshold,
    check_two_classes,
    log_odds_of,
    probability_of,
)
from imbtune.inference.decisions.threshold_choice import choose_threshold, threshold_metric
from imbtune.metrics.metric import Metric, objectives
from imbtune.metrics.predictions import ClassCounts, Confusion

COUNTS = ClassCounts(["cat", "dog"], np.array([30, 5]), np.array([30, 5]))


def matrix_at(
    at: float, z_N: NDArray[np.float64], labels_N: NDArray[np.int64]
) -> NDArray[np.int64]:
    matrix_22 = np.zeros((2, 2), dtype=np.int64)
    for z, label in zip(z_N, labels_N, strict=True):
        matrix_22[label, int(z >= at)] += 1
    return matrix_22


@contextmanager
def few_resamples(count: int = 20) -> Iterator[None]:
    """Where the uncertainty is not looked at, or only roughly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threshold_choice, "RESAMPLES", count)
        yield


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-6, 6), st.integers(0, 1)), min_size=4, max_size=12).filter(
        lambda rows: len({label for _, label in rows}) == 2
    ),
    st.sampled_from(["balanced_accuracy", "f_beta", "mcc", "expected_cost", "recall_at_precision"]),
)
def test_no_other_threshold_is_better(rows: list[tuple[int, int]], name: str) -> None:
    """Literally: against all thresholds between two values, by a matrix that is counted."""
    z_N = np.array([z for z, _ in rows], dtype=np.float64)
    labels_N = np.array([label for _, label in rows], dtype=np.int64)
    setting: object = {
        "expected_cost": {"name": name, "costs": [[0, 1], [5, 0]]},
        "recall_at_precision": {"name": name, "precision": 0.1},
    }.get(name, name)
    metric = threshold_metric(setting)

    def score(matrix_22: NDArray[np.int64]) -> float:
        if name == "recall_at_precision":
            hits, alarms = matrix_22[1, 1], matrix_22[0, 1]
            reached = hits and hits / (hits + alarms) >= 0.1
            return float(hits / matrix_22[1].sum()) if reached else -1.0
        found = metric.score(Confusion.of(matrix_22, COUNTS.train_K, COUNTS.names))
        assert found is not None
        return found

    with few_resamples():
        found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
    values = sorted(set(z_N.tolist()))
    between = [(a + b) / 2 for a, b in itertools.pairwise(values)]
    best = max(score(matrix_at(t, z_N, labels_N)) for t in (-9, *between, 9))
    assert score(matrix_at(found.log_odds, z_N, labels_N)) == pytest.approx(best)
    assert metric.sign * found.value == pytest.approx(best)


def drawn(images: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Log-odds of two normal distributions with means 2 apart, a fifth of them positive.

    By the balanced accuracy the best threshold is 0, with a value of Φ(1) = 0.841.
    """
    rng = np.random.default_rng(seed)
    labels_N = (rng.random(images) < 0.2).astype(np.int64)
    return rng.normal(2.0 * labels_N - 1), labels_N


def value_of(metric: Metric, log_odds: float, images: tuple[int, int]) -> float:
    """That of the population of `drawn`, with so many images of each class."""
    recall, alarm = norm.sf(log_odds - 1), norm.sf(log_odds + 1)
    negative, positive = images
    matrix_22 = np.array(
        [[negative * (1 - alarm), negative * alarm], [positive * (1 - recall), positive * recall]]
    )
    value = metric.value(Confusion.of(matrix_22, COUNTS.train_K, COUNTS.names))
    assert value is not None
    return value


@pytest.mark.parametrize("images", [26, 150])
@pytest.mark.parametrize(
    "setting",
    [
        "balanced_accuracy",
        {"name": "f_beta", "beta": 1.0, "of": "dog"},
        {"name": "expected_cost", "costs": {"dog": {"cat": 20}}},
    ],
)
def test_the_intervals_hold_the_true_values(images: int, setting: object) -> None:
    """Of 30 draws; the chance of fewer than 25 of 30 at 95 % is 0.3 %.

    The value on the images that the threshold was chosen on is too good on average.
    """
    metric = threshold_metric(setting)
    rng = np.random.default_rng(0)
    labels_N = np.repeat([0, 1], [images - images // 5, images // 5])
    totals = (images - images // 5, images // 5)
    best = max(np.linspace(-4, 4, 801), key=lambda at: metric.sign * value_of(metric, at, totals))
    apparent, held, thresholds = list[float](), 0, 0
    with few_resamples(100):
        for _ in range(30):
            z_N = rng.normal(2.0 * labels_N - 1)
            found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
            true = value_of(metric, found.log_odds, totals)
            apparent.append(metric.sign * (found.value - true))
            held += found.interval[0] <= true <= found.interval[1]
            thresholds += found.log_odds_interval[0] <= best <= found.log_odds_interval[1]
    assert held >= 25
    assert thresholds >= 25
    assert np.mean(apparent) > 0


def test_few_images_without_an_error_have_a_long_interval() -> None:
    """26 images of which none is wrong: one more error costs 20 / 26 = 0.77."""
    z_N, labels_N = np.linspace(-3, 3, 26), np.repeat([0, 1], [20, 6])
    metric = threshold_metric({"name": "expected_cost", "costs": {"dog": {"cat": 20}}})
    found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
    assert str(found.value) == "0.0"  # not -0.0
    assert found.interval[1] - found.interval[0] > 0.77


def test_nothing_is_gained_over_the_more_probable_class() -> None:
    """The default of 0 already divides the classes."""
    z_N, labels_N = np.array([-2.0, -1, -0.5, 0.5, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    found = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("accuracy"), 1, "these")
    assert not found.gains
    shifted = choose_threshold(z_N + 3, labels_N, COUNTS, threshold_metric("accuracy"), 1, "these")
    assert shifted.argmax_value == 0.5
    assert shifted.gains
    precise = threshold_metric({"name": "recall_at_precision", "precision": 0.9})
    assert choose_threshold(z_N + 3, labels_N, COUNTS, precise, 1, "these").argmax_value is None


def test_nothing_is_gained_over_one_class_for_every_image() -> None:
    """Ten cats and three dogs, of which the model knows nothing; a missed dog costs 20."""
    z_N = np.linspace(-2, -1, 13)
    labels_N = np.array([0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    cost = threshold_metric({"name": "expected_cost", "costs": {"dog": {"cat": 20}}})
    found = choose_threshold(z_N, labels_N, COUNTS, cost, 1, "these")
    assert found.constant == ("dog", 10 / 13)
    assert found.argmax_value == pytest.approx(60 / 13)
    assert found.corrected >= 10 / 13
    assert found.as_good == "predicting 'dog' for every image"
    accuracy = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("accuracy"), 1, "these")
    assert accuracy.constant == ("cat", 10 / 13)
    precise = threshold_metric({"name": "recall_at_precision", "precision": 0.9})
    better_N = np.where(labels_N == 1, 1.0, z_N)
    assert choose_threshold(better_N, labels_N, COUNTS, precise, 1, "these").constant is None


def test_a_threshold_beyond_all_images() -> None:
    """Where every image is better predicted as positive, the images give no lower end."""
    z_N, labels_N = np.array([0.0, 1, 2, 3, 4, 5]), np.array([1, 0, 1, 1, 1, 1])
    found = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("accuracy"), 1, "these")
    assert found.log_odds < 0
    assert found.log_odds_interval[0] == -np.inf
    assert found.probability_interval[0] == 0
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict())), ["cat", "dog"]) == found


def test_precision_that_no_threshold_reaches() -> None:
    z_N, labels_N = np.array([2.0, 1.0, 0.0]), np.array([0, 1, 0])
    metric = threshold_metric({"name": "recall_at_precision", "precision": 0.9})
    with raises_one_line("no threshold reaches recall_at_precision", kind=ConfigError):
        choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")


def test_a_class_without_images() -> None:
    metric = threshold_metric("f_beta")
    for label, missing in ((0, "dog"), (1, "cat")):
        with raises_one_line(f"no image of class '{missing}' in these", kind=ConfigError):
            choose_threshold(np.zeros(3), np.full(3, label), COUNTS, metric, 1, "these")


def test_equal_log_odds_are_on_one_side() -> None:
    z_N, labels_N = np.array([1.0, 1.0, 1.0, -1.0]), np.array([1, 0, 1, 0])
    found = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("accuracy"), 1, "these")
    assert found.log_odds == 0
    assert found.value == 0.75


def test_every_metric_is_either_chosen_for_or_refused() -> None:
    """A metric of the ranking or of the probabilities is the same at every threshold."""
    z_N, labels_N = drawn(40, 0)
    for name in objectives():
        if name in ("auroc", "average_precision", "log_loss", "brier", "ece", "top_k"):
            with raises_one_line(f"{name} is the same at every threshold", kind=ConfigError):
                threshold_metric(name)
            continue
        setting: object = {"name": name, "precision": 0.3} if "at_precision" in name else name
        metric = threshold_metric(setting)
        with few_resamples():
            found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
        assert np.isfinite(found.value), name
        assert found.interval[0] <= found.interval[1]


@pytest.mark.parametrize("name", ["many", "medium", "few"])
def test_a_metric_that_the_data_may_not_have_chooses_none(name: str) -> None:
    """The message says nothing of objectives, which are a search's."""
    with raises_one_line(
        f"--metric: '{name}' cannot be maximised, as data sets without such a class do not have "
        "it: give balanced_accuracy or worst_class",
        kind=ConfigError,
    ):
        threshold_metric(name)


def test_more_classes_are_refused_with_the_reason() -> None:
    with raises_one_line("has 3: thresholds per class", "overfit", kind=ConfigError):
        check_two_classes(["a", "b", "c"])
    check_two_classes(["a", "b"])


def test_the_file_gives_the_same_threshold() -> None:
    z_N, labels_N = drawn(80, 1)
    metric = threshold_metric({"name": "expected_cost", "costs": [[0, 1], [20, 0]]})
    found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict())), ["cat", "dog"]) == found
    assert found.counts == {"cat": int((labels_N == 0).sum()), "dog": int(labels_N.sum())}
    assert found.probability_interval[0] <= found.probability <= found.probability_interval[1]


@pytest.mark.parametrize(
    "change",
    [
        {"log_odds": "x"},
        {"log_odds": None},
        {"log_odds": float("nan")},
        {"log_odds_interval": [1]},
        {"interval": 3},
        {"counts": []},
        {"metric": 3},
        {"positive": "emu"},
    ],
)
def test_a_file_that_is_no_threshold(change: dict[str, object]) -> None:
    z_N, labels_N = drawn(40, 1)
    found = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("f_beta"), 1, "these")
    with raises_one_line("threshold.json is", kind=ConfigError):
        Threshold.from_dict({**found.to_dict(), **change}, ["cat", "dog"])
    with raises_one_line("threshold.json is", kind=ConfigError):
        Threshold.from_dict({}, ["cat", "dog"])


@given(st.floats(1e-9, 1 - 1e-9))
def test_log_odds_and_probability(p: float) -> None:
    assert probability_of(log_odds_of(p)) == pytest.approx(p, rel=1e-9)


def test_the_ends() -> None:
    assert (log_odds_of(0), log_odds_of(1)) == (-np.inf, np.inf)
    assert (probability_of(-1e4), probability_of(1e4)) == (0, 1)


@pytest.mark.parametrize(
    ("metric", "expected", "of_argmax", "of_constant", "as_good"),
    [
        ("f_beta", 0.8, 0.5, 0.7, ""),
        ("f_beta", 0.8, 0.8, 0.7, "predicting the more probable class"),
        ("f_beta", 0.8, 0.7, 0.8, "predicting 'dog' for every image"),
        ("expected_cost", 0.8, 0.5, 0.9, "predicting the more probable class"),
        ("expected_cost", 0.5, 0.8, 0.4, "predicting 'dog' for every image"),
        ("expected_cost", 0.5, 0.8, 0.9, ""),
        ("recall_at_precision", 0.5, None, None, ""),
    ],
)
def test_what_gains_nothing_says_so(
    metric: str, expected: float, of_argmax: float | None, of_constant: float | None, as_good: str
) -> None:
    constant = None if of_constant is None else ("dog", of_constant)
    found = Threshold(
        "dog", 0.0, (-1.0, 1.0), metric, 0.9, expected, (0.4, 0.9), of_argmax, constant, None,
        "9 images", {},
    )  # fmt: skip
    assert found.as_good == as_good
    gains = not as_good
    assert found.gains == gains
    assert ("it gains nothing, so it is not stored" in repr(found)) == (not gains)


@pytest.mark.parametrize(
    ("setting", "name", "wanted"),
    [
        ({"name": "recall_at_precision", "precision": 0.8}, "precision", 0.8),
        ({"name": "precision_at_recall", "recall": 0.7}, "recall", 0.7),
    ],
)
def test_what_is_asked_for_is_told_as_it_is_on_other_images(
    setting: dict[str, object], name: str, wanted: float
) -> None:
    """Against a literal resampling; where the model is weak, it holds on these images alone."""
    rng = np.random.default_rng(0)
    labels_N = np.repeat([0, 1], [90, 20])
    z_N = rng.normal(0.6 * labels_N)
    found = choose_threshold(z_N, labels_N, COUNTS, threshold_metric(setting), 1, "these")
    asked = found.condition
    assert asked is not None and (asked.name, asked.wanted) == (name, wanted)
    (_, alarms), (missed, hits) = matrix_at(found.log_odds, z_N, labels_N).tolist()
    shares = {"precision": hits / (hits + alarms), "recall": hits / (hits + missed)}
    assert asked.value == pytest.approx(shares[name]) and asked.value >= wanted
    assert asked.interval[0] <= asked.expected <= asked.interval[1]
    assert asked.images == (hits + alarms if name == "precision" else 20)
    reached, rates, metric = list[bool](), list[NDArray[np.float64]](), threshold_metric(setting)
    for _ in range(150):
        rows = np.concatenate([rng.choice(90, 90), 90 + rng.choice(20, 20)])
        left = np.setdiff1d(np.arange(110), rows)
        at = np.inf
        with few_resamples(2), suppress(ConfigError):
            at = choose_threshold(z_N[rows], labels_N[rows], COUNTS, metric, 1, "x").log_odds
        (other, alarm), (miss, hit) = matrix_at(at, z_N[left], labels_N[left]).tolist()
        of = hit + alarm if name == "precision" else hit + miss
        reached.append(hit > 0 and hit >= wanted * of)
        rates.append(np.array([hit / (hit + miss), alarm / (alarm + other)]))
    assert asked.reached == pytest.approx(np.mean(reached), abs=0.12)
    recall, alarm_rate = np.mean(rates, axis=0)
    expected = recall if name == "recall" else 20 * recall / (20 * recall + 90 * alarm_rate)
    assert asked.expected == pytest.approx(expected, abs=0.06)


def test_hardly_any_evidence_is_said() -> None:
    """One of 8 positive images is above all others."""
    z_N, labels_N = np.linspace(-2, 2, 48), np.zeros(48, dtype=np.int64)
    labels_N[[3, 9, 14, 20, 26, 31, 40, 47]] = 1
    metric = threshold_metric({"name": "recall_at_precision", "precision": 0.9})
    found = choose_threshold(z_N, labels_N, COUNTS, metric, 1, "these")
    assert found.condition is not None
    few, none = found.condition.warnings
    assert few.startswith("other images have a precision of 0.9 in only")
    assert none == "there is hardly any evidence: the precision is that of 1 image"
    assert repr(found).count("recall 0.") == 1 and ", precision " in repr(found)
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict())), ["cat", "dog"]) == found
    plain = choose_threshold(z_N, labels_N, COUNTS, threshold_metric("f_beta"), 1, "these")
    assert plain.condition is None
