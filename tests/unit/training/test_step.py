"""The input of a training step and its objective, against a literal transcription."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from short_runs import CPU, DATA, make_config, plan_of, same
from small_data import make_splits
from torch import Tensor

from imbtune.methods.losses import cloud_noise, margin_softmax
from imbtune.methods.lr_schedules import Phases
from imbtune.training.device import device_data
from imbtune.training.device.device_data import DeviceData, Views
from imbtune.training.device.image_store import Resident
from imbtune.training.loop import batches
from imbtune.training.phases import whole_run
from imbtune.training.state import TrainState, seed_torch
from imbtune.training.step import Batch, objective

# ---- the objective -----------------------------------------------------------------------------


@cache
def state_of(loss: str, reduction: str) -> TrainState:
    config = make_config(loss=loss, weights="inverse", weights__reduction=reduction)
    return TrainState(config, DATA)


def labelled(state: TrainState, labels_B: Tensor, partners_B: Tensor, g_B: Tensor) -> Batch:
    """A batch whose images nobody looks at; its norm as `weights.reduction` says."""
    w_K = state.methods.weights_K
    labels_LB = torch.stack([labels_B, partners_B])
    shares_LB = torch.stack([g_B, 1 - g_B]) * w_K[labels_LB]
    mean = state.config.weights.shared.reduction == "mean"
    norm = torch.tensor(float(len(g_B))) if mean else shares_LB.sum()
    return Batch(torch.empty(0), labels_LB, shares_LB, norm)


@pytest.mark.parametrize("reduction", ["weighted_mean", "mean"])
@pytest.mark.parametrize("loss", ["ce", "focal", "ldam", "vs", "gcl", "label_aware_smoothing"])
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_the_objective_is_two_hard_labels(loss: str, reduction: str, size: int, seed: int) -> None:
    """Σ(g·w_i·ℓ(z, y_i) + (1-g)·w_j·ℓ(z, y_j)) over Σ of the weights, or over the batch size.
    Both labels of a sample see the same noise (GCL)."""
    state, rng = state_of(loss, reduction), np.random.default_rng(seed)
    logits_BK = torch.from_numpy(rng.normal(size=(size, 4))).float()
    y_i, y_j = rng.integers(0, 4, (2, size))
    g_B, w_K = rng.random(size), state.methods.weights_K.tolist()
    torch.manual_seed(seed)
    noise_BK = cloud_noise((size, 4)) if loss == "gcl" else torch.zeros(size, 4)
    total, weight = 0.0, 0.0
    for b in range(size):
        a_b, b_b = g_B[b] * w_K[y_i[b]], (1 - g_B[b]) * w_K[y_j[b]]
        for share, label in ((a_b, y_i[b]), (b_b, y_j[b])):
            row, hard = slice(b, b + 1), torch.tensor([label])
            one = margin_softmax(logits_BK[row], hard, state.methods.vectors, noise_BK[row])
            total += share * one.item()
            weight += share
    batch = labelled(state, torch.from_numpy(y_i), torch.from_numpy(y_j), torch.tensor(g_B).float())
    got = objective(logits_BK, batch._replace(noise_BK=noise_BK), state.step_model)
    literal = total / (weight if reduction == "weighted_mean" else size)
    assert got.item() == pytest.approx(literal, rel=1e-4, abs=1e-6)


@given(st.floats(0, 1), st.integers(0, 10**6))
def test_each_label_can_be_divided_by_its_own_weights(lam: float, seed: int) -> None:
    """λ·CE_w(y_i) + (1-λ)·CE_w(y_j), each torch's weighted mean, as in CMO's code."""
    config = make_config(
        mix="mixup",
        weights="inverse",
        weights__schedule="always",
        weights__reduction="weighted_mean_per_label",
        seed=seed,
    )
    state = TrainState(config, DATA)
    plan = plan_of(state, whole_run(5, Phases())[1])
    assert plan.lam_SB is not None
    plan = plan._replace(lam_SB=torch.full_like(plan.lam_SB, lam))
    batch = next(batches(state, DATA, plan))
    logits_BK = torch.randn(
        batch.labels_LB.shape[1], 4, generator=torch.Generator().manual_seed(seed)
    )
    sides = [F.cross_entropy(logits_BK, y_B, state.methods.weights_K) for y_B in batch.labels_LB]
    expected = lam * sides[0] + (1 - lam) * sides[1]
    torch.testing.assert_close(objective(logits_BK, batch, state.step_model), expected)


@pytest.mark.parametrize("reduction", ["weighted_mean", "mean"])
def test_without_mixing_the_objective_is_torchs_weighted_cross_entropy(reduction: str) -> None:
    state = state_of("ce", reduction)
    logits_BK = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    labels_B = torch.tensor([0, 3, 1, 0, 2, 3, 0])
    got = objective(logits_BK, labelled(state, labels_B, labels_B, torch.ones(7)), state.step_model)
    if reduction == "weighted_mean":
        expected = F.cross_entropy(logits_BK, labels_B, state.methods.weights_K)
    else:
        expected = F.cross_entropy(
            logits_BK, labels_B, state.methods.weights_K, reduction="none"
        ).mean()
    torch.testing.assert_close(got, expected)


def test_the_parts_of_some_classes_add_up_to_the_objective() -> None:
    state = state_of("ce", "weighted_mean")
    draw = torch.Generator().manual_seed(0)
    logits_BK, g_B = torch.randn(9, 4, generator=draw), torch.rand(9, generator=draw)
    labels_B, partners_B = torch.randint(0, 4, (2, 9), generator=draw)
    batch, rare_K = labelled(state, labels_B, partners_B, g_B), torch.tensor([0.0, 0, 1, 1])
    parts = [
        objective(logits_BK, batch.of_classes(k), state.step_model) for k in (rare_K, 1 - rare_K)
    ]
    torch.testing.assert_close(parts[0] + parts[1], objective(logits_BK, batch, state.step_model))
    mine = batch.of_classes(rare_K)
    for b in range(9):
        assert (mine.shares_LB[0, b] == 0) == (labels_B[b] < 2)
        assert (mine.shares_LB[1, b] == 0) == (partners_B[b] < 2)


# ---- the input of a step -----------------------------------------------------------------------


def literal_view(views: Views, step: int, b: int) -> NDArray[np.float64]:
    """RandomCrop with padding 1, a flip, and the scaling of `make_splits`, for one image."""
    assert views.shift_SB2 is not None and views.flip_SB is not None
    pixels = DATA.resident("a test")[views.index_SB[step, b]].numpy()
    top, left = views.shift_SB2[step, b].tolist()
    cut = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))[:, top : top + 8, left : left + 8]
    cut = cut[:, :, ::-1] if views.flip_SB[step, b] else cut
    return np.asarray((cut / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("reduction", ["weighted_mean", "mean"])
@pytest.mark.parametrize(
    ("mix", "draw", "probability"),
    [
        ("none", "batch", 1.0),
        ("mamix", "batch", 1.0),
        ("smote", "sample", 0.5),
        ("cutmix", "sample", 0.5),
        ("unimix", "sample", 1.0),
        ("any_class_knn+cutmix+remix", "batch", 0.6),
    ],
)
def test_a_batch_is_cropped_flipped_scaled_and_mixed_as_written(
    mix: str, draw: str, probability: float, reduction: str
) -> None:
    chosen = {} if mix == "none" else {"mix__draw": draw, "mix__probability": probability}
    config = make_config(
        mix=mix, weights="inverse", weights__schedule="always", weights__reduction=reduction,
        **chosen,
    )  # fmt: skip
    state = TrainState(config, DATA)
    plan = plan_of(state, whole_run(5, Phases())[0])
    _, batch, _ = batches(state, DATA, plan)
    for b in range(30):
        x_i = literal_view(plan.image, 1, b)
        y_i = DATA.host_labels_N[plan.image.index_SB[1, b]]
        shares = [state.methods.weights_K[y_i]]
        if plan.partner is None or plan.lam_SB is None or state.methods.mix is None:
            expected, labels = x_i, [y_i]
        else:
            x_j = literal_view(plan.partner, 1, b)
            y_j = DATA.host_labels_N[plan.partner.index_SB[1, b]]
            lam = plan.lam_SB[1, b]
            n_i, n_j = DATA.train_counts_K[y_i], DATA.train_counts_K[y_j]
            g, labels = state.methods.mix.label(lam, n_i, n_j), [y_i, y_j]
            shares = [g * state.methods.weights_K[y_i], (1 - g) * state.methods.weights_K[y_j]]
            expected = lam.item() * x_i + (1 - lam.item()) * x_j
            if plan.box_SB4 is not None:
                top, bottom, left, right = plan.box_SB4[1, b].tolist()
                expected = x_i.copy()
                expected[:, top:bottom, left:right] = x_j[:, top:bottom, left:right]
        assert batch.labels_LB[:, b].tolist() == labels
        assert batch.images_BCHW[b].numpy() == pytest.approx(expected, abs=1e-4)
        torch.testing.assert_close(batch.shares_LB[:, b], torch.stack(shares))
    weight = sum(batch.shares_LB.flatten().tolist())
    literal = weight if reduction == "weighted_mean" else 30
    assert batch.norm.item() == pytest.approx(literal, rel=1e-5)


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "cmo", "remix"])
@pytest.mark.parametrize("draw", ["batch", "sample"])
def test_a_share_of_batches_or_samples_stays_to_the_bit_as_it_is(mix: str, draw: str) -> None:
    config = make_config(mix=mix, mix__draw=draw, mix__probability=0.3, batch_size=10, epochs=30)
    state, plain = TrainState(config, DATA), TrainState(make_config(batch_size=10), DATA)
    untouched = []
    for epoch in whole_run(30, Phases(warmup=0.0)):
        plan, alone = plan_of(state, epoch), batches(plain, DATA, plan_of(plain, epoch))
        assert plan.lam_SB is not None
        for step, (mixed, unmixed) in enumerate(
            zip(batches(state, DATA, plan), alone, strict=True)
        ):
            whole_B = plan.lam_SB[step] == 1
            assert torch.equal(mixed.images_BCHW[whole_B], unmixed.images_BCHW[whole_B])
            assert torch.equal(mixed.shares_LB[0, whole_B], unmixed.shares_LB[0, whole_B])
            assert not mixed.shares_LB[1, whole_B].any()
            assert not torch.equal(mixed.images_BCHW, unmixed.images_BCHW) or whole_B.any()
            untouched.append(whole_B.float().mean().item())
    assert 0.65 < np.mean(untouched) < 0.85  # a box of no area leaves an image whole as well
    assert (set(untouched) <= {0, 1}) == (draw == "batch")


def test_views_are_the_same_however_many_steps_are_cut_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = TrainState(make_config(batch_size=10), DATA)
    plan = plan_of(state, whole_run(5, Phases())[0])
    shown = []
    for steps in (1, 4, 100):  # of 9 steps
        together = steps * 10 * 8 * 8 * DATA.image_shape[0]
        monkeypatch.setitem(device_data.AUGMENTED_BYTES, "cpu", together)
        shown.append(list(DATA.views(plan.image)))
    assert len(shown[0]) == 9
    for other in shown[1:]:
        assert same(other, shown[0])


def test_seeding_leaves_nothing_behind_without_a_gpu() -> None:
    """torch.manual_seed keeps a traceback of every call until CUDA starts."""
    waiting = len(torch.cuda._queued_calls)
    seed_torch(1, 2)
    first = torch.rand(3)
    seed_torch(1, 2)
    assert torch.equal(torch.rand(3), first)
    assert len(torch.cuda._queued_calls) == waiting


def test_read_only_images_are_used_in_place_without_a_warning(warn_always: None) -> None:
    """Ray's object store hands out memory that nobody may write to."""
    splits = make_splits([4, 4])
    for part in (splits.train, splits.held_out):
        assert isinstance(part.pixels, np.ndarray)
        part.pixels.flags.writeable = part.labels.flags.writeable = False
    data = DeviceData(splits, CPU)
    assert isinstance(data.train, Resident) and isinstance(splits.train.pixels, np.ndarray)
    assert data.train.pixels_NCHW.data_ptr() == splits.train.pixels.ctypes.data
