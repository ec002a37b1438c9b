"""The input of a training step and its objective, against a literal transcription."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_splits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imbtune.config import TrainConfig
from imbtune.methods.losses import margin_softmax
from imbtune.methods.schedules import Phases
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import TrainState, batch, objective
from imbtune.training.plan import Views, draw_epoch
from imbtune.training.progress import whole_run

CPU = torch.device("cpu")
DATA = DeviceData(make_splits([60, 20, 6, 1]), CPU)  # 87 images, 8×8 grey


def make_config(**changes: Any) -> TrainConfig:
    given_settings = {k.replace("__", "."): v for k, v in changes.items()}
    return TrainConfig.from_settings({"batch_size": 30, "model.width": 4} | given_settings)


# ---- the objective -----------------------------------------------------------------------------


@cache
def state_of(loss: str, reduction: str) -> TrainState:
    config = make_config(loss=loss, weights="inverse", weights__reduction=reduction)
    return TrainState(config, DATA)


@pytest.mark.parametrize("reduction", ["weighted_mean", "mean"])
@pytest.mark.parametrize("loss", ["ce", "focal", "ldam", "vs"])
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_the_objective_is_two_hard_labels(loss: str, reduction: str, size: int, seed: int) -> None:
    """Σ(g·w_i·ℓ(z, y_i) + (1-g)·w_j·ℓ(z, y_j)) over Σ of the weights, or over the batch size."""
    state, rng = state_of(loss, reduction), np.random.default_rng(seed)
    logits_BK = torch.from_numpy(rng.normal(size=(size, 4))).float()
    y_i, y_j = rng.integers(0, 4, (2, size))
    g_B, w_K = rng.random(size), state.weights_K.tolist()
    total, weight = 0.0, 0.0
    for b in range(size):
        a_b, b_b = g_B[b] * w_K[y_i[b]], (1 - g_B[b]) * w_K[y_j[b]]
        for share, label in ((a_b, y_i[b]), (b_b, y_j[b])):
            hard_label = torch.tensor([label])
            total += share * margin_softmax(logits_BK[b : b + 1], hard_label, state.vectors).item()
            weight += share
    labels_B, partners_B = torch.from_numpy(y_i), torch.from_numpy(y_j)
    lam_B = torch.from_numpy(g_B).float()
    a_B, b_B = lam_B * state.weights_K[labels_B], (1 - lam_B) * state.weights_K[partners_B]
    got = objective(logits_BK, labels_B, partners_B, a_B, b_B, state)
    literal = total / (weight if reduction == "weighted_mean" else size)
    assert got.item() == pytest.approx(literal, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("reduction", ["weighted_mean", "mean"])
def test_without_mixing_the_objective_is_torchs_weighted_cross_entropy(reduction: str) -> None:
    state = state_of("ce", reduction)
    logits_BK = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    labels_B = torch.tensor([0, 3, 1, 0, 2, 3, 0])
    a_B = state.weights_K[labels_B]
    got = objective(logits_BK, labels_B, labels_B, a_B, torch.zeros(7), state)
    if reduction == "weighted_mean":
        expected = F.cross_entropy(logits_BK, labels_B, state.weights_K)
    else:
        expected = F.cross_entropy(logits_BK, labels_B, state.weights_K, reduction="none").mean()
    torch.testing.assert_close(got, expected)


# ---- the input of a step -----------------------------------------------------------------------


def literal_view(views: Views, step: int, b: int) -> NDArray[np.float64]:
    """RandomCrop with padding 1, a flip, and the scaling of `make_splits`, for one image."""
    assert views.shift_SB2 is not None and views.flip_SB is not None
    pixels = DATA.images_NCHW[views.index_SB[step, b]].numpy()
    top, left = views.shift_SB2[step, b].tolist()
    cut = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))[:, top : top + 8, left : left + 8]
    cut = cut[:, :, ::-1] if views.flip_SB[step, b] else cut
    return np.asarray((cut / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("mix", ["none", "mamix", "smote", "cutmix", "any_class_knn+cutmix+remix"])
def test_a_batch_is_cropped_flipped_scaled_and_mixed_as_written(mix: str) -> None:
    config = make_config(mix=mix, weights="inverse", weights__schedule="always")
    state = TrainState(config, DATA)
    epoch = whole_run(5, Phases())[0]
    plan = draw_epoch(config, DATA, state.mix, state.weights_K, epoch)
    images_BCHW, labels_B, partners_B, a_B, b_B = batch(state, DATA, plan, 1)
    w_K = state.weights_K
    for b in range(30):
        x_i = literal_view(plan.image, 1, b)
        y_i = DATA.host_labels_N[plan.image.index_SB[1, b]]
        assert labels_B[b] == y_i
        if plan.partner is None or plan.lam_SB is None or state.mix is None:
            expected, g, y_j = x_i, torch.tensor(1.0), y_i
        else:
            x_j = literal_view(plan.partner, 1, b)
            y_j = DATA.host_labels_N[plan.partner.index_SB[1, b]]
            lam = plan.lam_SB[1, b]
            n_i, n_j = DATA.train_counts_K[y_i], DATA.train_counts_K[y_j]
            g = state.mix.label(lam, n_i, n_j)
            expected = lam.item() * x_i + (1 - lam.item()) * x_j
            if plan.box_SB4 is not None:
                top, bottom, left, right = plan.box_SB4[1, b].tolist()
                expected = x_i.copy()
                expected[:, top:bottom, left:right] = x_j[:, top:bottom, left:right]
        assert partners_B[b] == y_j
        assert images_BCHW[b].numpy() == pytest.approx(expected, abs=1e-4)
        torch.testing.assert_close(a_B[b], g * w_K[y_i])
        torch.testing.assert_close(b_B[b], (1 - g) * w_K[y_j])


def test_read_only_images_are_used_in_place_without_a_warning() -> None:
    """Ray's object store hands out memory that nobody may write to."""
    splits = make_splits([4, 4])
    for part in (splits.train, splits.held):
        part.pixels.flags.writeable = part.labels.flags.writeable = False
    data = DeviceData(splits, CPU)
    assert data.images_NCHW.data_ptr() == splits.train.pixels.ctypes.data
