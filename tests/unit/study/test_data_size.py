"""What a user is told of the size of a data set, against literal arithmetic and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_data import make_splits

from imbtune.metrics.metric import compute, metric_from, metrics
from imbtune.metrics.predictions import Confusion
from imbtune.spaces.space_file import load_space, parse_space
from imbtune.study.data_size import ScoreScale, class_counts, data_size_lines, score_scale
from imbtune.study.request import SearchRequest
from imbtune.tuning.session import size_lines


def scale_of(objective: object, counts: list[int] | NDArray[np.int64]) -> ScoreScale:
    names = [f"class{k}" for k in range(len(counts))]
    scale = score_scale(metric_from(objective), class_counts(names, counts, counts))
    assert scale
    return scale


BALANCED = metric_from("balanced_accuracy")
WITH_A_CLASS = [part.name for part in metrics if "of" in part.knobs]
COUNTS = st.lists(st.integers(1, 50), min_size=2, max_size=12)


@given(
    COUNTS, st.sampled_from(["balanced_accuracy", "accuracy", "macro_f1", "worst_class", "g_mean"])
)
def test_chance_is_the_best_score_of_predicting_one_class(
    counts: list[int], objective: str
) -> None:
    scores = []
    for predicted in range(len(counts)):
        confusion_KK = np.zeros((len(counts), len(counts)), dtype=np.int64)
        confusion_KK[:, predicted] = counts
        scores.append(compute(Confusion.of(confusion_KK, np.array(counts)))[objective])
    assert scale_of(objective, counts).chance == pytest.approx(max(s or 0 for s in scores))


@given(COUNTS, st.sampled_from(["balanced_accuracy", "accuracy", "worst_class"]))
def test_one_image_of_the_smallest_class_moves_the_score_by_a_step(
    counts: list[int], objective: str
) -> None:
    scale = scale_of(objective, counts)
    confusion_KK = np.diag(counts)
    before = compute(Confusion.of(confusion_KK, np.array(counts)))[objective]
    wrong = scale.coarsest
    confusion_KK[wrong, wrong] -= 1
    confusion_KK[wrong, wrong - 1] += 1
    after = compute(Confusion.of(confusion_KK, np.array(counts)))[objective]
    assert before is not None and after is not None
    assert before - after == pytest.approx(scale.step)
    assert counts[wrong] == min(counts)


@pytest.mark.parametrize("objective", ["balanced_accuracy", "accuracy"])
def test_the_standard_error_is_that_of_scores_where_half_is_right(objective: str) -> None:
    counts, rng = np.array([2, 5, 30]), np.random.default_rng(0)
    hits = rng.binomial(counts, 0.5, (100_000, 3))
    scores = hits.sum(1) / counts.sum() if objective == "accuracy" else (hits / counts).mean(1)
    assert scale_of(objective, counts).error == pytest.approx(scores.std(), rel=0.02)


@pytest.mark.parametrize(
    ("counts", "chance", "step", "error", "coarsest"),
    [
        ([10, 5, 2, 1], 0.25, 0.25, 0.25 * (0.025 + 0.05 + 0.125 + 0.25) ** 0.5, 3),
        ([30] * 10, 0.1, 1 / 300, (10 * 0.25 / 30) ** 0.5 / 10, 0),
        ([4, 0, 1], 0.5, 0.5, 0.5 * (0.25 / 4 + 0.25) ** 0.5, 2),  # a class without images
    ],
)
def test_literal_values_of_balanced_accuracy(
    counts: list[int], chance: float, step: float, error: float, coarsest: int
) -> None:
    scale = scale_of("balanced_accuracy", counts)
    values = (scale.chance, scale.step, scale.error)
    assert values == pytest.approx((chance, step, error)) and scale.coarsest == coarsest


def test_what_one_hit_moves_a_mean_of_recalls_by() -> None:
    """Root mean square over the classes; 0 where a score is no mean of recalls."""
    counts = [4, 2, 0]
    assert scale_of("accuracy", counts).one_hit == pytest.approx(1 / 6)
    expected = ((1 / 8) ** 2 / 2 + (1 / 4) ** 2 / 2) ** 0.5
    assert scale_of("balanced_accuracy", counts).one_hit == pytest.approx(expected)
    for other in ("worst_class", "g_mean", "log_loss", "auroc"):
        assert scale_of(other, counts).one_hit == 0


def test_a_small_set_is_told_in_two_lines() -> None:
    lines = data_size_lines(
        metric_from("balanced_accuracy"), list("abcx"), [9, 6, 3, 2], [4, 3, 2, 1], 64
    )
    assert lines == [
        "Images per class: 9 6 3 2 for training, 4 3 2 1 for validation; a model that predicts the "
        "same for every image scores 0.25",
        "Small data set: one validation image of class 'x' moves the score by 0.25, and one score "
        "has a standard error of up to 0.18: trials that differ by less cannot be told apart; an "
        "epoch has 1 step of 20 images: give more epochs or a smaller batch_size",
    ]


def test_a_large_set_takes_one_line() -> None:
    classes = [str(k) for k in range(100)]
    lines = data_size_lines(metric_from("accuracy"), classes, [500, *[5] * 99], [20] * 100, 64)
    assert lines == [
        "Images per class: 5 to 500 for training, 20 for validation; a model that predicts the "
        "same for every image scores 0.01"
    ]


@pytest.mark.parametrize(
    ("validation", "batch", "warns"),
    [
        ([30] * 10, 64, False),  # digits-lt
        ([200] * 10, 64, False),
        ([1, *[30] * 9], 64, True),  # one class is coarse
        ([30, 30], 64, True),  # two classes need more
        ([200, 200], 64, False),
        ([30] * 10, 276, True),  # a single step
    ],
)
def test_only_a_small_set_has_a_warning(validation: list[int], batch: int, warns: bool) -> None:
    names = [str(k) for k in range(len(validation))]
    train = [276 // len(names)] * len(names)
    lines = data_size_lines(metric_from("balanced_accuracy"), names, train, validation, batch)
    assert len(lines) == 1 + warns
    assert all("\n" not in line for line in lines)


def test_a_search_is_told_of_its_own_data() -> None:
    request = SearchRequest(load_space("digits-lt"), 5, "any")
    (first, second) = size_lines(request, make_splits([60, 20, 6, 1], held=2))
    assert first.startswith("Images per class: 60 20 6 1 for training, 2 for validation; ")
    assert "one validation image of class 'class0' moves the score by 0.12" in second
    assert "an epoch has 1 step of 64 images" in second
    worst = parse_space("worst", {"data": {"name": "digits"}, "objective": "worst_class"})
    first = size_lines(SearchRequest(worst, 5, "any"), make_splits([60, 20, 6, 1]))[0]
    assert first.endswith("scores 0")


def test_a_metric_of_one_class_has_the_step_of_that_class() -> None:
    scale = scale_of({"name": "recall_at_precision", "of": "class1"}, [5, 20, 30])
    assert (scale.step, scale.coarsest) == (1 / 20, 1)
    assert scale.error is None  # its threshold varies with the images, too


@pytest.mark.parametrize("name", ["mcc", "cohen_kappa"])
@pytest.mark.parametrize("counts", [[30, 30], [500, 5], [30] * 10, [100] * 9 + [4]])
def test_one_image_moves_an_agreement_by_about_a_step(name: str, counts: list[int]) -> None:
    """Not by that of a mean over classes: half of it for two, 20 times as much for the last."""
    scale, matrix_KK = scale_of(name, counts), np.diag(counts)
    wrong = scale.coarsest
    matrix_KK[wrong, wrong] -= 1
    matrix_KK[wrong, wrong - 1] += 1
    after = metric_from(name).value(Confusion.of(matrix_KK, np.array(counts)))
    assert after is not None and 1 - after == pytest.approx(scale.step, rel=0.12)


def test_the_error_of_an_agreement_of_equal_classes() -> None:
    """κ is 2a - 1 with the accuracy a of two such classes, and (10a - 1)/9 of ten."""
    assert scale_of("cohen_kappa", [30, 30]).error == pytest.approx(2 * 0.5 / 60**0.5)
    assert scale_of("cohen_kappa", [30] * 10).error == pytest.approx(10 / 9 * 0.5 / 300**0.5)


def scale_on(objective: object, train: list[int], validation: list[int]) -> ScoreScale:
    names = [f"class{k}" for k in range(len(train))]
    scale = score_scale(metric_from(objective), class_counts(names, train, validation))
    assert scale
    return scale


@pytest.mark.parametrize("name", WITH_A_CLASS)
def test_every_metric_that_takes_a_class_has_the_step_of_that_class(name: str) -> None:
    """Ten classes: the mean of them moves by a fortieth with one image of the smallest."""
    train, validation = [300] * 9 + [5], [100] * 9 + [4]
    scale = scale_on({"name": name, "of": "class9"}, train, validation)
    assert (scale.step, scale.coarsest) == (1 / 4, 9)
    assert scale.error == (0.25 if name == "f_beta" else None)  # 0.5 / √4
    scale = scale_on({"name": name, "of": "class0"}, train, validation)
    assert (scale.step, scale.coarsest) == (1 / 100, 0)
    of_all = scale_on(name, train, validation)
    is_of_one = name in ("recall_at_precision", "precision_at_recall")
    assert (of_all.step, of_all.coarsest) == (1 / 4 if is_of_one else 1 / 40, 9)


@pytest.mark.parametrize("beta", [0.5, 1, 2, 10])
@pytest.mark.parametrize("is_missed", [True, False])
def test_one_image_moves_the_f_score_of_a_class_by_at_most_a_step(
    beta: float, is_missed: bool
) -> None:
    objective = {"name": "f_beta", "beta": beta, "of": "class9"}
    counts = [100] * 9 + [4]
    scale, names = scale_of(objective, counts), [f"class{k}" for k in range(10)]
    matrix_KK = np.diag(counts)
    wrong, predicted = (9, 0) if is_missed else (0, 9)
    matrix_KK[wrong, wrong] -= 1
    matrix_KK[wrong, predicted] += 1
    after = metric_from(objective).value(Confusion.of(matrix_KK, np.array(counts), names))
    assert scale.step and after is not None
    assert 0 < 1 - after <= scale.step
    assert not is_missed or beta < 1 or 1 - after > 1 / 40  # that of the mean of all classes


def test_the_auroc_of_two_classes_is_as_coarse_as_the_smaller_one() -> None:
    """It is the same whichever is the positive one; so it is of one class of many and the rest."""
    for of in ("class0", "class1", ""):
        scale = scale_on({"name": "auroc", "of": of}, [900, 20], [500, 5])
        assert (scale.step, scale.coarsest) == (1 / 5, 1)
    scale = scale_on({"name": "auroc", "of": "class0"}, [900, 9, 9], [500, 3, 2])
    assert (scale.step, scale.coarsest) == (1 / 4, 2)


def test_a_mean_of_some_classes_has_their_step() -> None:
    train, validation = [300, 200, 50, 9, 7], [2, 30, 10, 5, 8]
    found = {name: scale_on(name, train, validation) for name in ("many", "medium", "few")}
    assert [found[name].step for name in found] == [1 / 4, 1 / 10, 1 / 10]
    assert [found[name].coarsest for name in found] == [0, 2, 3]
    assert found["few"].error == pytest.approx((0.25 / 5 + 0.25 / 8) ** 0.5 / 2)


def test_a_class_without_part_in_the_metric_is_no_warning() -> None:
    names = list("abcdefghij")
    size = ([300] * 9 + [5], [100] * 9 + [4], 64)
    of_large, of_small = (
        data_size_lines(metric_from({"name": "f_beta", "of": of}), names, *size) for of in "aj"
    )
    assert len(of_large) == 1
    assert "class 'j' moves the score by 0.25, and one score has a standard" in of_small[1]
    assert "error of up to 0.25: trials" in of_small[1]


def test_errors_of_probabilities_have_no_bound() -> None:
    scale = scale_of("log_loss", [10, 10])
    assert (scale.step, scale.error) == (None, None)
    assert scale.chance == pytest.approx(-np.log(2))
    lines = data_size_lines(metric_from("log_loss"), ["a", "b"], [400, 9], [4, 2], 64)
    assert "predicts the same for every image has a log loss of 0.637 at best" in lines[0]
    ece = data_size_lines(metric_from("ece"), ["a", "b"], [400, 9], [4, 2], 64)[0]
    assert ece.endswith("4 2 for validation")  # a constant prediction has the best value
    assert lines[1].startswith("Small data set: class 'b' has 2 validation images, so scores of l")
    assert len(data_size_lines(metric_from("log_loss"), ["a", "b"], [400, 99], [30, 30], 64)) == 1


@pytest.mark.parametrize("name", ["average_precision", "auroc", "recall_at_precision"])
def test_metrics_of_the_order_have_larger_errors_than_recalls(name: str) -> None:
    """12 and 108 images, as of a fraud data set: the jackknife finds .11 to .15, above the .076
    that a balanced accuracy of them has at most."""
    scale = scale_of({"name": name, "of": "class0"} if name[0] == "r" else name, [12, 108])
    assert scale.error is None and scale.coarsest == 0


def test_costs_are_told_by_the_names_of_the_classes() -> None:
    """Rows are classes, columns predicted ones; the order of the names decides."""
    metric = metric_from({"name": "expected_cost", "costs": [[0, 20], [1, 0]]})
    told = " ".join(data_size_lines(metric, ["fraud", "normal"], [50, 90], [20, 20], 16))
    assert "an image of 'fraud' that is predicted as 'normal' costs 20;" in told
    assert "costs 20; every other error costs 1" in told
