"""Temperature scaling, against scikit-learn and a literal minimisation."""

from __future__ import annotations

import json
import math
from importlib import metadata

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from imbtune.inference.calibration import (
    HIGH,
    LOW,
    Calibration,
    calibrate,
    fit_temperature,
    not_calibrated,
)
from imbtune.inference.decisions.label_shift import fit_label_shift


def drawn(seed: int, images: int, classes: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose best temperature is about `sharpness`: labels are drawn from softmax(z / it)."""
    random = np.random.default_rng(seed)
    logits_NK = random.normal(0, 3, (images, classes))
    p_NK = np.exp(logits_NK / sharpness)
    p_NK /= p_NK.sum(1, keepdims=True)
    labels_N = np.array([random.choice(classes, p=p_K) for p_K in p_NK])
    return logits_NK, labels_N


def literal_loss(temperature: float, logits_NK: np.ndarray, labels_N: np.ndarray) -> float:
    total = 0.0
    for z_K, y in zip(logits_NK.tolist(), labels_N.tolist(), strict=True):
        top = max(z_K)
        total -= (z_K[y] - top) / temperature
        total += math.log(sum(math.exp((z - top) / temperature) for z in z_K))
    return total / len(labels_N)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(20, 60),
    st.integers(2, 6),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_it_is_the_literal_minimum(seed: int, images: int, classes: int, sharp: float) -> None:
    logits_NK, labels_N = drawn(seed, images, classes, sharp)
    found, note = fit_temperature(logits_NK, labels_N)
    if note:
        return
    wanted = minimize_scalar(
        lambda log_t: literal_loss(math.exp(log_t), logits_NK, labels_N),
        bounds=(math.log(LOW), math.log(HIGH)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert math.log(found) == pytest.approx(wanted.x, abs=1e-4)
    assert literal_loss(found, logits_NK, labels_N) <= wanted.fun + 1e-12


class _Logits(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose features are its logits."""

    def fit(self, x_NK: np.ndarray, labels_N: np.ndarray) -> _Logits:
        self.classes_ = np.unique(labels_N)
        return self

    def decision_function(self, x_NK: np.ndarray) -> np.ndarray:
        return x_NK

    def predict(self, x_NK: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.classes_[x_NK.argmax(1)]
        return found


@pytest.mark.skipif(
    metadata.version("scikit-learn") < "1.8", reason="scikit-learn has it from 1.8 on"
)
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 5.0])
def test_it_is_that_of_scikit_learn(sharpness: float) -> None:
    logits_NK, labels_N = drawn(1, 300, 4, sharpness)
    fitted = FrozenEstimator(_Logits().fit(logits_NK, labels_N))
    model = CalibratedClassifierCV(fitted, method="temperature", ensemble=False)
    model.fit(logits_NK, labels_N)
    temperature, _ = fit_temperature(logits_NK, labels_N)
    p_NK = torch.from_numpy(logits_NK / temperature).softmax(1).numpy()
    np.testing.assert_allclose(model.predict_proba(logits_NK), p_NK, atol=1e-6)


def test_what_is_reported() -> None:
    """On the images of the fit, with what another class mix starts from."""
    logits_NK, labels_N = drawn(2, 200, 3, 4.0)
    train_K = np.array([50, 30, 20])
    found = calibrate(
        torch.from_numpy(logits_NK), torch.from_numpy(labels_N), "images", ["a", "b", "c"], train_K
    )
    assert found.images == 200
    for temperature, value in zip((1, found.temperature), found.log_loss, strict=True):
        p_NK = torch.from_numpy(logits_NK / temperature).softmax(1).numpy()
        assert value == pytest.approx(log_loss(labels_N, p_NK))
    assert found.log_loss[1] < found.log_loss[0] and found.ece[1] < found.ece[0]
    assert found.label_shift == fit_label_shift(logits_NK, labels_N, train_K)
    assert Calibration.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_images_that_are_all_correct_tell_no_temperature() -> None:
    """The log-loss falls without end as the model gets sharper."""
    logits_NK = 0.1 * np.eye(3)[[0, 1, 2, 0]]
    assert fit_temperature(logits_NK, np.array([0, 1, 2, 0])) == (
        1.0,
        "all 4 images are predicted correctly, so their log-loss has no minimum: the temperature "
        "stays 1; more images would tell it",
    )


@pytest.mark.parametrize(
    ("logits", "labels", "wanted"),
    [
        ([[3.0, 0.0], [0.0, 3.0]], [1, 0], HIGH),  # always wrong: the best is to know nothing
        ([[5.0, 0.0], [1.0, 1.0]], [0, 0], LOW),  # never wrong, but for a tie
        ([[2.0, 2.0], [0.0, 0.0]], [0, 1], 1.0),  # nothing to scale
    ],
)
def test_the_bounds(logits: list[list[float]], labels: list[int], wanted: float) -> None:
    found, note = fit_temperature(np.array(logits), np.array(labels))
    assert found == wanted
    assert note == ("" if wanted == 1 else f"the temperature is at its bound, {wanted:g}")


def test_a_model_without_a_temperature_says_why() -> None:
    content = not_calibrated()
    assert Calibration.from_json(content) is None
    assert "imbtune train --calibrate 0.1" in str(content["reason"])


@pytest.mark.parametrize("temperature", [0, -1.0, 1e9, math.inf])
def test_a_temperature_that_cannot_be_is_refused(temperature: float) -> None:
    found = Calibration(1.0, 9, "images", (1.0, 1.0), (0.0, 0.0), None).to_json()
    with pytest.raises(ValueError, match="is not between"):
        Calibration.from_json(found | {"temperature": temperature})


def test_an_older_calibration_starts_no_other_class_mix() -> None:
    found = Calibration(2.0, 9, "images", (1.0, 1.0), (0.0, 0.0), None)
    content = found.to_json()
    del content["label_shift"]
    assert Calibration.from_json(content) == found
