"""Figures from a confusion matrix against scikit-learn, and the evaluation that fills one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score
from small_data import make_splits
from torch import Tensor, nn

from imbtune.metrics.from_confusion import recalls
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation import metrics as module
from imbtune.training.evaluation.metrics import evaluate

Ints = NDArray[np.int64]


@st.composite
def confusions(draw: st.DrawFn) -> Ints:
    """Up to seven classes, each with an image at least."""
    k = draw(st.integers(2, 7))
    confusion_KK = draw(arrays.arrays(np.int64, (k, k), elements=st.integers(0, 30)))
    empty_K = confusion_KK.sum(1) == 0
    confusion_KK[empty_K, draw(st.integers(0, k - 1))] = 1
    return confusion_KK


def predictions(confusion_KK: Ints) -> tuple[Ints, Ints]:
    """Labels and predictions, one an image, that make this matrix."""
    true, predicted = np.indices(confusion_KK.shape)
    times = confusion_KK.ravel()
    return np.repeat(true.ravel(), times), np.repeat(predicted.ravel(), times)


@given(confusions())
def test_figures_are_scikit_learns(confusion_KK: Ints) -> None:
    labels, predicted = predictions(confusion_KK)
    classes = range(len(confusion_KK))
    recall_K = recall_score(labels, predicted, labels=classes, average=None, zero_division=0)
    f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
    figures = compute(Confusion.of(confusion_KK, np.full(len(confusion_KK), 50)))
    assert recalls(confusion_KK) == pytest.approx(recall_K)
    assert figures["macro_f1"] == pytest.approx(f1)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert figures["worst_class"] == pytest.approx(recall_K.min())
    balanced = balanced_accuracy_score(labels, predicted)
    assert figures["balanced_accuracy"] == pytest.approx(balanced)


@given(confusions(), st.data())
def test_groups_are_many_over_100_medium_and_few_under_20(
    confusion_KK: Ints, data: st.DataObject
) -> None:
    k = len(confusion_KK)
    sizes = st.sampled_from([1, 19, 20, 21, 99, 100, 101, 5000])
    counts = data.draw(st.lists(sizes, min_size=k, max_size=k))
    literal: dict[str, list[float]] = {"many": [], "medium": [], "few": []}
    for i, count in enumerate(counts):
        group = "many" if count > 100 else "few" if count < 20 else "medium"
        literal[group].append(confusion_KK[i, i] / sum(confusion_KK[i]))
    figures = compute(Confusion.of(confusion_KK, np.array(counts)))
    for group, recall in literal.items():
        assert figures[group] == (pytest.approx(np.mean(recall)) if recall else None)


def test_a_class_without_held_out_images_is_left_out_of_recall() -> None:
    confusion_KK = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
    assert np.isnan(recalls(confusion_KK)[1])
    figures = compute(Confusion.of(confusion_KK, np.array([200, 50, 10])))
    assert figures["medium"] is None
    assert figures["macro_f1"] == pytest.approx((6 / 9 + 4 / 6) / 2)
    assert figures["balanced_accuracy"] == pytest.approx((0.75 + 0.5) / 2)
    assert figures["worst_class"] == pytest.approx(0.5)
    assert figures["few"] == pytest.approx(0.5)


@given(confusions(), st.data())
def test_classes_without_held_out_images_do_not_count(
    confusion_KK: Ints, data: st.DataObject
) -> None:
    """The metrics are those over the other classes; a prediction of such a class is an error."""
    k = len(confusion_KK)
    empty = data.draw(st.integers(0, k - 1))
    confusion_KK[empty] = 0
    others = [i for i in range(k) if i != empty]
    labels, predicted = predictions(confusion_KK)
    figures = compute(Confusion.of(confusion_KK, np.where(np.arange(k) == empty, 5, 50)))
    recall_K = recall_score(labels, predicted, labels=others, average=None, zero_division=0)
    f1 = f1_score(labels, predicted, labels=others, average="macro", zero_division=0)
    assert np.isnan(recalls(confusion_KK)[empty]) and figures["few"] is None
    assert figures["balanced_accuracy"] == pytest.approx(recall_K.mean())
    assert figures["worst_class"] == pytest.approx(recall_K.min())
    assert figures["macro_f1"] == pytest.approx(f1)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted))


def test_a_perfect_confusion_matrix() -> None:
    figures = compute(Confusion.of(np.eye(3, dtype=np.int64), np.array([200, 50, 10])))
    assert {*figures} > {"mcc", "g_mean", "f_beta"}
    assert figures == dict.fromkeys(figures, pytest.approx(1.0)) | {"expected_cost": 0.0}


class BrightnessModel(nn.Module):
    """Takes an image for class 0, 1 or 2 by its mean, and knows the shapes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.batches.append(len(images_BCHW))
        self.modes.add(self.training)
        level_B = images_BCHW.mean((1, 2, 3))
        return torch.stack([-level_B, torch.zeros_like(level_B), level_B], dim=1)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_evaluation_counts_each_held_out_image_once(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In evaluation mode, in batches of any size; the model is left in training mode."""
    monkeypatch.setattr(module, "BLOCK", size)
    splits = make_splits([5, 4, 3], held=10)
    model = BrightnessModel()
    autocast = torch.autocast("cpu", enabled=False)
    confusion_KK = evaluate(model, DeviceData(splits, torch.device("cpu")), autocast).confusion_KK
    literal = np.zeros((3, 3), dtype=np.int64)
    for pixels, label in zip(splits.held_out.pixels, splits.held_out.labels, strict=True):
        level = (pixels / 255.0 - 0.5).mean() / 0.25
        literal[label, 2 if level > 0 else 0] += 1
    assert np.array_equal(confusion_KK, literal)
    assert len(model.batches) == -(-30 // size) and model.modes == {False}
    assert model.training
