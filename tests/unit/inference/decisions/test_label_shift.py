"""What `--prior` starts from: fitted to models whose implied class mix is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from imbtune.inference.decisions.label_shift import (
    MEAN_TAU,
    SPREAD_BELOW,
    SPREAD_LOG_T,
    SPREAD_R,
    SPREAD_TAU,
    LabelShift,
    fit_label_shift,
)

TRAIN_K = np.array([160, 40, 8, 4])
KEPT_K = np.array([40, 10, 2, 1])
Drawn = tuple[np.ndarray, np.ndarray]


def drawn(seed: int, images_K: np.ndarray, tau: float, temperature: float) -> Drawn:
    """Logits and labels of a model whose implied class mix is (training shares)^τ.

    The images of a class are points around its mean, so that the likelihood is known.
    """
    means_KD = np.random.default_rng(7).normal(0, 1.2, (4, 3))
    labels_N = np.repeat(np.arange(4), images_K)
    points_ND = means_KD[labels_N] + np.random.default_rng(seed).normal(size=(len(labels_N), 3))
    likelihood_NK = -((points_ND[:, None] - means_KD) ** 2).sum(2) / 2
    return temperature * (likelihood_NK + tau * np.log(TRAIN_K / TRAIN_K.sum())), labels_N


def log_loss(log_p_NK: np.ndarray, labels_N: np.ndarray) -> float:
    return -float(log_p_NK[np.arange(len(labels_N)), labels_N].mean())


def with_prior(logits_NK: np.ndarray, shift: LabelShift, prior_K: np.ndarray) -> np.ndarray:
    """Literally the formula of the module."""
    log_ratio_K = np.log(prior_K) - np.log(shift.prior_K)
    found: np.ndarray = log_softmax(logits_NK / shift.temperature + log_ratio_K, axis=1)
    return found


@pytest.mark.parametrize("tau", [0.0, 1.0], ids=["balanced", "unbalanced"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_true_prior_is_not_worse_than_none(tau: float, temperature: float) -> None:
    """From 53 images, of which one is of the rarest class; on 2,000 images of the true mix."""
    for seed in range(4):
        shift = fit_label_shift(*drawn(seed, KEPT_K, tau, temperature), TRAIN_K)
        for true_K in (TRAIN_K / TRAIN_K.sum(), np.full(4, 0.25)):
            images_K = np.round(2000 * true_K).astype(int)
            logits_NK, labels_N = drawn(99, images_K, tau, temperature)
            without = log_loss(log_softmax(logits_NK / temperature, axis=1), labels_N)
            log_p_NK = with_prior(logits_NK, shift, images_K / images_K.sum())
            shares_K = TRAIN_K**tau / (TRAIN_K**tau).sum()
            right = bool(np.allclose(true_K, shares_K))  # the model is for this mix as it is
            assert log_loss(log_p_NK, labels_N) <= without + (0.06 if right else 0)


def test_many_images_tell_temperature_and_mix() -> None:
    for tau in (0.0, 0.5, 1.0):
        shift = fit_label_shift(*drawn(3, TRAIN_K * 100, tau, 2.5), TRAIN_K)
        assert shift.temperature == pytest.approx(2.5, rel=0.05)
        implied_K = TRAIN_K**tau / (TRAIN_K**tau).sum()
        np.testing.assert_allclose(np.log(shift.prior_K), np.log(implied_K), atol=0.15)


def test_one_image_of_a_class_does_not_decide_on_its_share() -> None:
    """Also where it is predicted as another class, or its class has none."""
    logits_NK, labels_N = drawn(5, KEPT_K, 1.0, 1.0)
    logits_NK[-1] = [4, 0, 0, 0]
    wrong = fit_label_shift(logits_NK, labels_N, TRAIN_K)
    assert 0.3 < wrong.prior_K[3] / (TRAIN_K[3] / TRAIN_K.sum()) < 3
    without = fit_label_shift(logits_NK[:-1], labels_N[:-1], TRAIN_K)
    assert 0.3 < without.prior_K[3] / (TRAIN_K[3] / TRAIN_K.sum()) < 3


def test_images_that_are_all_correct_give_finite_numbers() -> None:
    labels_N = np.repeat(np.arange(4), KEPT_K)
    shift = fit_label_shift(5.0 * np.eye(4)[labels_N], labels_N, TRAIN_K)
    assert 0.05 < shift.temperature < 1
    assert sum(shift.prior_K) == pytest.approx(1) and min(shift.prior_K) > 1e-3


def literal(
    logits_NK: np.ndarray, labels_N: np.ndarray, log_t: float, tau: float, r_K: np.ndarray
) -> float:
    log_train_K = np.log(TRAIN_K) - np.log(TRAIN_K).mean()
    mix_K = np.bincount(labels_N, minlength=4) / len(labels_N)
    shift_K = np.log(mix_K) - tau * log_train_K - r_K
    log_p_NK = log_softmax(logits_NK / np.exp(log_t) + shift_K, axis=1)
    spread = SPREAD_LOG_T if log_t > 0 else SPREAD_BELOW
    penalty = (log_t / spread) ** 2 + ((tau - MEAN_TAU) / SPREAD_TAU) ** 2
    return (
        len(labels_N) * log_loss(log_p_NK, labels_N)
        + (penalty + float((r_K**2).sum()) / SPREAD_R**2) / 2
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 1.0]))
def test_nothing_near_it_is_better(seed: int, tau: float) -> None:
    logits_NK, labels_N = drawn(seed, KEPT_K, tau, 2.0)
    shift = fit_label_shift(logits_NK, labels_N, TRAIN_K)
    log_t, log_train_K = float(np.log(shift.temperature)), np.log(TRAIN_K) - np.log(TRAIN_K).mean()
    log_prior_K = np.log(shift.prior_K)

    def value(log_t: float, log_prior_K: np.ndarray) -> float:
        """With the τ and the r that cost least among those that give this mix."""
        centred_K = log_prior_K - log_prior_K.mean()
        slope = float(log_train_K @ log_train_K) / SPREAD_R**2
        best = (float(centred_K @ log_train_K) / SPREAD_R**2 + MEAN_TAU / SPREAD_TAU**2) / (
            slope + 1 / SPREAD_TAU**2
        )
        return literal(logits_NK, labels_N, log_t, best, centred_K - best * log_train_K)

    found = value(log_t, log_prior_K)
    for step in (-0.03, 0.03):
        assert value(log_t + step, log_prior_K) > found
        for k in range(4):
            assert value(log_t, log_prior_K + step * np.eye(4)[k]) > found


def test_it_is_written_and_read() -> None:
    shift = LabelShift(2.5, (0.75, 0.25))
    assert LabelShift.from_json(json.loads(json.dumps(shift.to_json()))) == shift
    for wrong in ({"temperature": 0}, {"prior": [-1, 2]}, {"prior": ["x"]}):
        with pytest.raises(ValueError, match=r"cannot be|could not convert"):
            LabelShift.from_json(shift.to_json() | wrong)
