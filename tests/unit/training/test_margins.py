"""Margins of examples and their class means, against loops over examples and classes."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from short_runs import CPU, DATA, make_config, raw_logits, trained
from small_data import make_splits

from imbtune.data.splits import Images, Splits
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation import margins as module
from imbtune.training.evaluation.margins import Margins, class_margins, example_margins, margins_of
from imbtune.training.state import TrainState

Floats = NDArray[np.float64]
Scored = tuple[Floats, list[int]]


@st.composite
def scored(draw: st.DrawFn) -> Scored:
    """Logits (N, K), often tied, with labels."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 6))
    values = draw(st.sampled_from([st.integers(-2, 2), st.floats(-30, 30, width=32)]))
    logits_NK = draw(arrays.arrays(np.float64, (n, k), elements=values))
    return logits_NK, draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))


def literal_margins(z: list[float], y: int) -> tuple[float, float]:
    """z_y - max_{k≠y} z_k, and the same of exp(z)/Σexp(z)."""
    others = [k for k in range(len(z)) if k != y]
    total = sum(math.exp(value - max(z)) for value in z)
    p = [math.exp(value - max(z)) / total for value in z]
    return z[y] - max(z[k] for k in others), p[y] - max(p[k] for k in others)


@given(scored())
def test_margins_are_the_literal_ones(drawn: Scored) -> None:
    logits_NK, labels = drawn
    logit_N, probability_N = margins_of(torch.from_numpy(logits_NK), torch.tensor(labels))
    for n, y in enumerate(labels):
        logit, probability = literal_margins(logits_NK[n].tolist(), y)
        assert logit_N[n].item() == pytest.approx(logit, abs=1e-9)
        assert probability_N[n].item() == pytest.approx(probability, abs=1e-9)
        assert -1 <= probability_N[n] <= 1
        best = int(logits_NK[n].argmax())
        assert logit_N[n] >= 0 if best == y else logit_N[n] <= 0
        tied = (logits_NK[n] == logits_NK[n].max()).sum() > 1 and logits_NK[n, y] == logits_NK[
            n
        ].max()
        assert (logit_N[n] == 0) == tied


def test_a_margin_may_be_as_large_as_softmax_cannot_show() -> None:
    """At 200 apart the probabilities are 1 and 0 in float32; the logit margin is there."""
    logit_N, probability_N = margins_of(torch.tensor([[200.0, 0.0]] * 2), torch.tensor([0, 1]))
    assert logit_N.tolist() == [200, -200] and probability_N.tolist() == [1, -1]


@given(scored())
def test_class_means_are_means_over_each_class(drawn: Scored) -> None:
    logits_NK, labels = drawn
    both = [literal_margins(z.tolist(), y) for z, y in zip(logits_NK, labels, strict=True)]
    logit_N, probability_N = (np.array(part) for part in zip(*both, strict=True))
    margins = Margins(np.array(labels), logits_NK.argmax(1), logit_N, probability_N)
    for k, (logit, probability) in enumerate(zip(*margins.class_means(7), strict=True)):
        mine = [pair for pair, y in zip(both, labels, strict=True) if y == k]
        if mine:
            assert logit == pytest.approx(sum(pair[0] for pair in mine) / len(mine), abs=1e-9)
            assert probability == pytest.approx(sum(pair[1] for pair in mine) / len(mine), abs=1e-9)
        else:
            assert math.isnan(logit) and math.isnan(probability)


# ---- of a model --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 40, 1000])
@pytest.mark.parametrize("loss", ["ce", "ldam"])
def test_examples_are_shown_once_in_order_without_augmentation(
    loss: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And logits count times the loss's scale, 30 for LDAM's cosines."""
    monkeypatch.setattr(module, "BLOCK", block)
    state = trained(make_config(loss=loss, epochs=2))
    network = copy.deepcopy(state.model).eval()
    margins = example_margins(state, DATA, DATA.held_out, DATA.held_out_labels_M)
    held = make_splits([60, 20, 6, 1]).held_out
    assert margins.labels.tolist() == held.labels.tolist()
    assert isinstance(held.pixels, np.ndarray)
    for n, (pixels, y) in enumerate(zip(held.pixels, held.labels.tolist(), strict=True)):
        image = torch.from_numpy((pixels / 255 - 0.5) / 0.25).float()
        with torch.no_grad():
            z = (30 if loss == "ldam" else 1) * network(image[None])[0]
        logit, probability = literal_margins(z.tolist(), y)
        assert margins.logit[n] == pytest.approx(logit, abs=1e-3)
        assert margins.probability[n] == pytest.approx(probability, abs=1e-4)
        assert abs(logit) < 1e-3 or (margins.predicted[n] == y) == (margins.logit[n] > 0)
    assert state.model.training


def test_predictions_are_those_of_the_confusion_matrix() -> None:
    state = trained(make_config(epochs=2))
    margins = example_margins(state, DATA, DATA.held_out, DATA.held_out_labels_M)
    confusion_KK = np.zeros((4, 4), dtype=np.int64)
    for label, predicted in zip(margins.labels, margins.predicted, strict=True):
        confusion_KK[label, predicted] += 1
    assert np.array_equal(confusion_KK, state.evaluate(DATA))


def test_class_margins_are_of_training_and_held_out_images() -> None:
    splits = make_splits([20, 5, 3])
    few = splits.held_out.labels != 1  # nothing of class 1 is held out
    assert isinstance(splits.held_out.pixels, np.ndarray)
    held = Images(splits.held_out.pixels[few], splits.held_out.labels[few])
    data = DeviceData(Splits(splits.train, held, splits.classes, splits.preprocessing), CPU)
    state = trained(make_config(epochs=1, batch_size=14), data)
    figures = class_margins(state, data)
    for (logit_K, probability_K), images, labels in (
        (figures[:2], data.train, data.labels_N),
        (figures[2:], data.held_out, data.held_out_labels_M),
    ):
        pixels = next(images.in_order(1000))
        logits_NK = raw_logits(state, data.normalise(pixels))
        one, other = margins_of(logits_NK, labels)
        for k in (0, 2):
            assert logit_K[k] == pytest.approx(one[labels == k].mean().item(), abs=1e-4)
            assert probability_K[k] == pytest.approx(other[labels == k].mean().item(), abs=1e-4)
    assert np.isnan(figures.held_out_logit_K[1]) and np.isnan(figures.held_out_probability_K[1])
    assert np.isfinite(figures.train_logit_K).all()


def test_two_classes_have_margins_of_one_another() -> None:
    data = DeviceData(make_splits([9, 4]), CPU)
    state = TrainState(make_config(batch_size=4), data)
    margins = example_margins(state, data, data.train, data.labels_N)
    logits_NK = raw_logits(state, data.normalise(next(data.train.in_order(20)))).numpy()
    sign = np.where(margins.labels == 0, 1, -1)
    assert margins.logit == pytest.approx(sign * (logits_NK[:, 0] - logits_NK[:, 1]), abs=1e-5)
    assert margins.probability == pytest.approx(np.tanh(margins.logit / 2), abs=1e-5)
