"""Every metric against scikit-learn or a literal formula: ties, absent classes, one class, NaN."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import gmean, hmean
from sklearn import metrics as sk

from imbtune.config.yaml_files import parse_value
from imbtune.errors import ConfigError, DivergenceError
from imbtune.metrics import predictions as module
from imbtune.metrics.defined import check_defined
from imbtune.metrics.metric import Metric, compute, metric_from
from imbtune.metrics.metric_registry import LOGITS, LOWER, metrics
from imbtune.metrics.predictions import ClassCounts, Confusion, Predictions

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@st.composite
def predicted(draw: st.DrawFn) -> Predictions:
    """Up to 40 images, many with the same logits; classes may have no image, or all of them."""
    classes, images = draw(st.integers(2, 6)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows_RK = rng.integers(-9, 9, (draw(st.integers(1, 20)), classes)) / draw(st.integers(1, 4))
    present = rng.permutation(classes)[: draw(st.integers(1, classes))]
    logits_NK = rows_RK[rng.integers(0, len(rows_RK), images)].astype(np.float32)
    labels_N = rng.choice(present, images)
    train_K = rng.integers(1, 300, classes)
    return make(logits_NK, labels_N, train_K)


def make(logits_NK: object, labels_N: object, train_K: Ints | None = None) -> Predictions:
    logits = torch.as_tensor(np.asarray(logits_NK, dtype=np.float32))
    classes = logits.shape[1]
    train_K = np.arange(classes, 0, -1) if train_K is None else train_K
    names = [f"c{k}" for k in range(classes)]
    return Predictions(logits, torch.as_tensor(np.asarray(labels_N)), names, train_K)


def arrays(found: Predictions) -> tuple[Floats, Ints, Ints]:
    """Probabilities, labels and predicted classes.

    Of eleven digits: a softmax rounds equal probabilities to different ones.
    """
    p_NK = softmax(found.logits_NK.double().numpy(), axis=1)
    p_NK = np.char.mod("%.11g", p_NK).astype(float)
    return p_NK, found.labels_N.numpy(), found.logits_NK.argmax(1).numpy()


def literal(name: str, found: Predictions) -> float | None:
    """A metric with its defaults; scikit-learn's where it has the metric."""
    p_NK, y_N, predicted_N = arrays(found)
    present, every, train_K = np.unique(y_N), range(p_NK.shape[1]), found.train_K
    recall_K = sk.recall_score(y_N, predicted_N, labels=present, average=None)
    one = max(every, key=lambda k: (-train_K[k], k))
    of_one = y_N == one
    groups = {"many": train_K > 100, "few": train_K < 20}
    groups["medium"] = ~groups["many"] & ~groups["few"]
    if name in groups:
        members = [r for k, r in zip(present, recall_K, strict=True) if groups[name][k]]
        return float(np.mean(members)) if members else None
    if name in ("auroc", "average_precision"):
        ranked = [one] if len(every) == 2 else every
        if name == "auroc":
            areas = [
                sk.roc_auc_score(y_N == k, p_NK[:, k]) for k in ranked if 0 < (y_N == k).mean() < 1
            ]
            return float(np.mean(areas)) if areas else None
        found_K = [
            sk.average_precision_score(y_N == k, p_NK[:, k]) for k in ranked if (y_N == k).any()
        ]
        return float(np.mean(found_K)) if found_K else None
    if name in ("recall_at_precision", "precision_at_recall"):
        if not of_one.any():
            return None
        precision, recall, _ = sk.precision_recall_curve(of_one, p_NK[:, one])
        if name == "recall_at_precision":
            return float(recall[precision >= 0.9].max())
        return float(precision[recall >= 0.9].max())
    if name == "ece":
        top_N, gap = p_NK.max(1), 0.0
        for b in range(15):
            inside = (top_N > b / 15) & (top_N <= (b + 1) / 15)
            if inside.any():
                hit = (p_NK.argmax(1) == y_N)[inside].mean()
                gap += inside.mean() * abs(hit - top_N[inside].mean())
        return gap
    if name == "top_k":
        if len(every) <= 5:
            return 1.0
        return float(sk.top_k_accuracy_score(y_N, found.logits_NK.numpy(), k=5, labels=every))
    if name == "cohen_kappa" and {*y_N} == {*predicted_N} and len(present) == 1:
        return 0.0  # 0/0: scikit-learn has NaN
    values: dict[str, Callable[[], float]] = {
        "balanced_accuracy": lambda: recall_K.mean(),
        "accuracy": lambda: sk.accuracy_score(y_N, predicted_N),
        "macro_f1": lambda: sk.f1_score(y_N, predicted_N, labels=present, average="macro"),
        "worst_class": lambda: recall_K.min(),
        "g_mean": lambda: gmean(recall_K),
        "harmonic_mean": lambda: hmean(recall_K) if recall_K.all() else 0,
        "mcc": lambda: sk.matthews_corrcoef(y_N, predicted_N),
        "cohen_kappa": lambda: sk.cohen_kappa_score(y_N, predicted_N),
        "f_beta": lambda: sk.fbeta_score(y_N, predicted_N, beta=2, labels=present, average="macro"),
        "expected_cost": lambda: (y_N != predicted_N).mean(),
        "log_loss": lambda: sk.log_loss(y_N, p_NK, labels=every),
        "brier": lambda: sk.brier_score_loss(
            y_N, p_NK[:, 1] if len(every) == 2 else p_NK, labels=every
        ),
    }
    with np.errstate(divide="ignore"):
        return float(values[name]())


@pytest.mark.parametrize("name", metrics.names())
@pytest.mark.filterwarnings("ignore:A single label was found", "ignore:y_true contains only")
@settings(max_examples=12)
@given(found=predicted())
def test_a_metric_is_scikit_learns(name: str, found: Predictions) -> None:
    value, wanted = metric_from(name).value(found), literal(name, found)
    assert value == (None if wanted is None else pytest.approx(wanted, abs=1e-8))
    if value is not None:
        low, high = metrics.traits(name).low, metrics.traits(name).high
        assert isinstance(low, float) and isinstance(high, float)
        assert low - 1e-12 <= value <= high + 1e-12


@settings(max_examples=25)
@given(predicted(), st.sampled_from([0.0, 0.3, 0.5, 0.75, 1.0]), st.integers(0, 5), st.data())
def test_metrics_of_one_class_are_scikit_learns(
    found: Predictions, least: float, index: int, data: st.DataObject
) -> None:
    p_NK, y_N, predicted_N = arrays(found)
    k = index % p_NK.shape[1]
    if not (y_N == k).any():
        return
    of = data.draw(st.sampled_from([f"c{k}", str(k), k]))
    precision, recall, _ = sk.precision_recall_curve(y_N == k, p_NK[:, k])
    settings: list[tuple[dict[str, object], float]] = [
        ({"name": "recall_at_precision", "precision": least}, recall[precision >= least].max()),
        ({"name": "precision_at_recall", "recall": least}, precision[recall >= least].max()),
        ({"name": "average_precision"}, sk.average_precision_score(y_N == k, p_NK[:, k])),
        (
            {"name": "f_beta", "beta": least + 0.5},
            sk.fbeta_score(y_N == k, predicted_N == k, beta=least + 0.5),
        ),
    ]
    if not (y_N == k).all():
        settings.append(({"name": "auroc"}, sk.roc_auc_score(y_N == k, p_NK[:, k])))
    for setting, wanted in settings:
        assert metric_from({**setting, "of": of}).value(found) == pytest.approx(wanted), setting


@settings(max_examples=25)
@given(predicted(), st.integers(1, 6), st.integers(1, 40))
def test_top_k_and_bins(found: Predictions, k: int, bins: int) -> None:
    p_NK, y_N, _ = arrays(found)
    hits = [
        label in sorted(range(len(row)), key=lambda j: (row[j], j))[::-1][:k]
        for row, label in zip(found.logits_NK.tolist(), y_N.tolist(), strict=True)
    ]
    assert metric_from({"name": "top_k", "k": k}).value(found) == pytest.approx(np.mean(hits))
    value = metric_from({"name": "ece", "bins": bins}).value(found)
    top_N, hit_N = p_NK.max(1), p_NK.argmax(1) == y_N
    bin_N = np.ceil(top_N * bins - 1e-9)
    gaps = [(hit_N - top_N)[bin_N == b].sum() for b in range(1, bins + 1)]
    assert value == pytest.approx(np.abs(gaps).sum() / len(y_N), abs=1e-9)


@settings(max_examples=25)
@given(predicted())
def test_a_metric_is_undefined_where_it_has_no_chance_level(found: Predictions) -> None:
    """So it depends on the labels alone, and a search knows before it trains."""
    classes = found.logits_NK.shape[1]
    prior_K = found.counts.prior_K
    rows = [np.log(np.maximum(prior_K, 1e-30)), *(60 * np.eye(classes))]
    constant = [
        make([row] * len(found.labels_N), found.labels_N.numpy(), found.train_K) for row in rows
    ]
    for name in metrics.names():
        metric = metric_from(name)
        chance = metric.chance(found.counts)
        assert (metric.value(found) is None) == (chance is None)
        if chance is not None:
            if name == "ece":  # which a constant prediction has best
                assert chance == -1
                continue
            scores = [score for c in constant if (score := metric.score(c)) is not None]
            assert chance == pytest.approx(max(scores), abs=1e-5), name


@settings(max_examples=25)
@given(predicted())
def test_blocks_change_nothing(found: Predictions) -> None:
    whole = compute(found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_VALUES", 7)
        again = Predictions(found.logits_NK, found.labels_N, found.names, found.train_K)
        assert compute(again) == {
            k: v if v is None else pytest.approx(v, abs=1e-12) for k, v in whole.items()
        }


@settings(max_examples=25)
@given(predicted())
def test_the_confusion_matrix_is_enough_for_its_metrics(found: Predictions) -> None:
    _, y_N, predicted_N = arrays(found)
    matrix_KK = sk.confusion_matrix(y_N, predicted_N, labels=range(len(found.names)))
    counted = compute(Confusion.of(matrix_KK, found.train_K, found.names))
    needs = {part.name for part in metrics if metrics.traits(part.name).needs == LOGITS}
    assert counted == {k: v for k, v in compute(found).items() if k not in needs}


def test_probabilities_close_to_one_do_not_tie() -> None:
    """In a softmax of doubles, gaps of 40 and 60 are both 1."""
    found = make([[0, 40], [0, 60], [0, 50], [0, -60]], [0, 1, 1, 0])
    assert metric_from("auroc").value(found) == 1.0


def test_calibration_error_in_bins_closed_above() -> None:
    """Confidences of exactly 1/2 are in the bin (0, 1/2]; those above it in (1/2, 1]."""
    found = make([[0, 0], [0, 0], [0, 1], [0, 1]], [0, 1, 1, 1])
    above = 1 / (1 + np.exp(-1))
    value = metric_from({"name": "ece", "bins": 2}).value(found)
    assert value == pytest.approx(0.5 * 0 + 0.5 * (1 - above))


def test_costs_are_those_of_the_true_row_and_the_predicted_column() -> None:
    found = make([[1, 0], [0, 1], [1, 0], [1, 0]], [0, 0, 1, 1])
    metric = metric_from({"name": "expected_cost", "costs": [[0, 1], [10, 0.5]]})
    assert metric.value(found) == (0 + 1 + 10 + 10) / 4
    assert metric.score(found) == -21 / 4
    assert metric.chance(found.counts) == -(1 + 0.5) / 2
    assert metric == metric_from({"name": "expected_cost", "costs": "[[0, 1], [10, 0.5]]"})
    with pytest.raises(ConfigError, match="a row for each of the 2 classes"):
        metric_from({"name": "expected_cost", "costs": [[0, 1, 1]] * 3}).value(found)


def test_the_rarer_of_two_classes_is_the_positive_one() -> None:
    logits, labels = [[0, 2], [0, 1], [0, 0], [0, -1]], [1, 0, 1, 0]
    of = {
        "train": (np.array([9, 3]), 1),
        "reverse": (np.array([3, 9]), 0),
        "tie": (np.array([5, 5]), 1),
    }
    for train_K, index in of.values():
        found = make(logits, labels, train_K)
        wanted = metric_from({"name": "average_precision", "of": index}).value(found)
        assert metric_from("average_precision").value(found) == wanted
        assert metric_from("precision_at_recall").value(found) == pytest.approx(
            metric_from({"name": "precision_at_recall", "of": index}).value(found)
        )


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_an_error(broken: float) -> None:
    with pytest.raises(DivergenceError, match="the logits of 1 of 2 images are not finite"):
        make([[0, 1], [broken, 1]], [0, 1])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("aurok", "did you mean 'auroc'"),
        (["auroc"], "unknown metric"),
        ({"precision": 0.9}, "has no name"),
        ({"name": "recall_at_precision", "precison": 0.9}, "did you mean 'precision'"),
        ({"name": "recall_at_precision", "precision": 1.5}, "out of range"),
        ({"name": "accuracy", "of": "a"}, "has no knobs"),
        ({"name": "top_k", "k": 0}, "out of range"),
        ({"name": "f_beta", "beta": "x"}, "beta='x' is not a number: from 0.01 to 100"),
        ({"name": "top_k", "k": 2.5}, "k=2.5 is not a whole number: at least 1"),
        ({"name": "expected_cost", "costs": "a b; c d"}, "is a text that is no matrix"),
        ({"name": "expected_cost", "costs": [[0, -1], [1, 0]]}, "-1 is no cost"),
        ({"name": "auroc", "of": True}, "of=True: give the name of a class, or its index"),
        ({"name": "auroc", "of": 1.5}, "of=1.5: give the name of a class, or its index"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        metric_from(setting)


def test_a_class_that_is_not_there() -> None:
    found = make([[0, 1], [1, 0]], [0, 1])
    for of in ("c7", "²"):
        with pytest.raises(ConfigError, match="unknown class"):
            metric_from({"name": "auroc", "of": of}).value(found)
    for of in ("2", "-1"):
        with pytest.raises(ConfigError, match=f"index {of}: give a name, or an index from 0 to 1"):
            metric_from({"name": "auroc", "of": of}).value(found)


def test_no_class_is_the_mean_of_all() -> None:
    assert metric_from({"name": "auroc", "of": None}) == metric_from({"name": "auroc", "of": ""})


@pytest.mark.parametrize(
    ("setting", "held_out", "message"),
    [
        ("auroc", [4, 0], r"auroc \(of 'c1'\) is undefined, as class 'c1' has no test images"),
        ("auroc", [0, 4], r"auroc \(of 'c1'\) is undefined, as all test images are of one class"),
        ({"name": "auroc", "of": "c1"}, [4, 0], "no test images: give another objective"),
        ({"name": "precision_at_recall", "of": 1}, [4, 0], "is undefined"),
        ("top_k", [4, 4], r"objective top_k \(k 5\) tells nothing on the test images"),
        ({"name": "recall_at_precision", "precision": 0.4}, [4, 4], "tells nothing"),
        ({"name": "f_beta", "of": "c9"}, [4, 4], "unknown class 'c9'"),
        ({"name": "expected_cost", "costs": [[0, 1, 1]] * 3}, [4, 4], "each of the 2 classes"),
        ({"name": "expected_cost", "costs": [[0, 0], [1, 1]]}, [4, 0], "tells nothing"),
    ],
)
def test_an_objective_that_the_data_do_not_have(
    setting: object, held_out: list[int], message: str
) -> None:
    counts = ClassCounts(["c0", "c1"], np.array([9, 3]), np.array(held_out))
    with pytest.raises(ConfigError, match=message):
        check_defined([metric_from("ece"), metric_from(setting)], counts, "test images")
    names = ("ece", "log_loss", "balanced_accuracy", "mcc", "average_precision")
    both = ClassCounts(["c0", "c1"], np.array([9, 3]), np.array([4, 2]))
    check_defined([metric_from(name) for name in names], both, "test images")


def test_a_setting_is_written_as_it_was_given() -> None:
    given = {"name": "recall_at_precision", "precision": 0.8, "of": "fraud"}
    metric = metric_from(given)
    assert metric.setting() == given and metric_from("auroc").setting() == "auroc"
    assert str(metric) == "recall_at_precision (precision ≥ 0.8, of 'fraud')"
    assert isinstance(metric, Metric) and metric.sign == 1
    lower = {part.name for part in metrics if metrics.traits(part.name).better == LOWER}
    assert lower == {"log_loss", "brier", "ece", "expected_cost"}
    assert {metric_from(name).sign for name in lower} == {-1}


def test_costs_by_name_are_nested_in_the_text_that_is_typed() -> None:
    setting = {"name": "expected_cost", "costs": {"it's": {"normal": 20}}}
    metric = metric_from(setting)
    assert json.loads(metric.text()) == setting
    assert metric_from(parse_value(metric.text())) == metric
