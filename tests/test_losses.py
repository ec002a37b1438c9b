"""The margin-softmax family against a slow transcription of each paper's formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imbtune.methods.losses import ldam, losses, margin_softmax

Batch = tuple[Tensor, Tensor, Tensor]  # logits_BK, labels_B, counts_K


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Logits of up to 8 samples for up to 6 classes, in float64, with class counts."""
    size, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    row = st.lists(st.floats(-15, 15), min_size=classes, max_size=classes)
    logits_BK = draw(st.lists(row, min_size=size, max_size=size))
    labels_B = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    counts_K = draw(st.lists(st.integers(1, 10_000), min_size=classes, max_size=classes))
    dtype = torch.float64
    return (
        torch.tensor(logits_BK, dtype=dtype),
        torch.tensor(labels_B),
        torch.tensor(counts_K, dtype=dtype),
    )


def vectorised(name: str, batch: Batch, **knobs: float) -> Tensor:
    logits_BK, labels_B, counts_K = batch
    return margin_softmax(logits_BK, labels_B, losses[name].make(counts_K, **knobs))


def cross_entropy(z: list[float], y: int) -> float:
    top = max(z)
    return math.log(sum(math.exp(z_k - top) for z_k in z)) + top - z[y]


# ---- each loss, one sample at a time: logits z, class y, class counts n ------------------------


def literal_ce(z: list[float], y: int, n: list[float]) -> float:
    return cross_entropy(z, y)


def literal_focal(z: list[float], y: int, n: list[float], gamma: float) -> float:
    p_y = math.exp(-cross_entropy(z, y))
    return float(max(1 - p_y, 0) ** gamma * cross_entropy(z, y))


def literal_ldam(z: list[float], y: int, n: list[float], margin: float, scale: float) -> float:
    """CE(s·(z - Δ_y·1[y])) with Δ_k = max_m·n_k^(-1/4)/max_j n_j^(-1/4)."""
    delta_y = margin * n[y] ** -0.25 / max(n_j**-0.25 for n_j in n)
    return cross_entropy([scale * (z_k - delta_y * (k == y)) for k, z_k in enumerate(z)], y)


def literal_balanced_softmax(z: list[float], y: int, n: list[float]) -> float:
    """-log(n_y·e^z_y / Σ n_k·e^z_k)."""
    weighted = [n_k * math.exp(z_k) for z_k, n_k in zip(z, n, strict=True)]
    return -math.log(weighted[y] / sum(weighted))


def literal_logit_adjustment(z: list[float], y: int, n: list[float], tau: float) -> float:
    adjusted = [z_k + tau * math.log(n_k / sum(n)) for z_k, n_k in zip(z, n, strict=True)]
    return cross_entropy(adjusted, y)


def literal_vs(z: list[float], y: int, n: list[float], slope: float, tau: float) -> float:
    """CE(z_k·(n_k/n_max)^γ + τ·log π_k)."""
    shifted = [
        z_k * (n_k / max(n)) ** slope + tau * math.log(n_k / sum(n))
        for z_k, n_k in zip(z, n, strict=True)
    ]
    return cross_entropy(shifted, y)


def literal_cdt(z: list[float], y: int, n: list[float], slope: float) -> float:
    """CE(z_k/a_k) with temperatures a_k = (n_max/n_k)^γ."""
    return cross_entropy([z[k] / (max(n) / n[k]) ** slope for k in range(len(z))], y)


LITERAL: dict[str, Any] = {
    "ce": literal_ce,
    "focal": literal_focal,
    "ldam": literal_ldam,
    "balanced_softmax": literal_balanced_softmax,
    "logit_adjustment": literal_logit_adjustment,
    "vs": literal_vs,
    "cdt": literal_cdt,
}


def drawn_knobs(data: st.DataObject, name: str) -> dict[str, float]:
    """Any valid value of each knob of a loss."""
    return {
        knob: data.draw(st.floats(parameter.knob.low, parameter.knob.high), knob)
        for knob, parameter in losses[name].parameters.items()
    }


def test_every_loss_has_its_formula_here() -> None:
    assert list(LITERAL) == losses.names()


@pytest.mark.parametrize("name", losses.names())
@given(batch=batches(), data=st.data())
def test_the_vectorised_loss_is_the_papers(name: str, batch: Batch, data: st.DataObject) -> None:
    knobs = drawn_knobs(data, name)
    logits_BK, labels_B, counts_K = (tensor.tolist() for tensor in batch)
    literal = [
        LITERAL[name](z, y, counts_K, **knobs) for z, y in zip(logits_BK, labels_B, strict=True)
    ]
    assert vectorised(name, batch, **knobs).tolist() == pytest.approx(literal, rel=1e-7, abs=1e-9)


NEUTRAL = [
    ("focal", {"gamma": 0.0}),
    ("ldam", {"margin": 0.0, "scale": 1.0}),
    ("logit_adjustment", {"tau": 0.0}),
    ("vs", {"slope": 0.0, "tau": 0.0}),
    ("cdt", {"slope": 0.0}),
]


@pytest.mark.parametrize(("name", "knobs"), NEUTRAL)
@given(batch=batches())
def test_neutral_knobs_make_it_cross_entropy(
    name: str, knobs: dict[str, float], batch: Batch
) -> None:
    expected = F.cross_entropy(batch[0], batch[1], reduction="none")
    torch.testing.assert_close(vectorised(name, batch, **knobs), expected)


@pytest.mark.parametrize("name", ["logit_adjustment", "balanced_softmax", "vs", "cdt"])
@given(batch=batches(), count=st.integers(1, 10_000))
def test_equal_class_sizes_make_it_cross_entropy(name: str, batch: Batch, count: int) -> None:
    logits_BK, labels_B, counts_K = batch
    balanced = (logits_BK, labels_B, torch.full_like(counts_K, count))
    expected = F.cross_entropy(logits_BK, labels_B, reduction="none")
    torch.testing.assert_close(vectorised(name, balanced), expected)


@given(batches())
def test_balanced_softmax_is_logit_adjustment_with_tau_1(batch: Batch) -> None:
    adjusted = vectorised("logit_adjustment", batch, tau=1.0)
    torch.testing.assert_close(vectorised("balanced_softmax", batch), adjusted)


@given(batches(), st.floats(0, 2), st.floats(0, 10))
def test_vs_is_cdt_and_logit_adjustment(batch: Batch, slope: float, tau: float) -> None:
    without_tau = vectorised("vs", batch, slope=slope, tau=0.0)
    torch.testing.assert_close(without_tau, vectorised("cdt", batch, slope=slope))
    without_slope = vectorised("vs", batch, slope=0.0, tau=tau)
    torch.testing.assert_close(without_slope, vectorised("logit_adjustment", batch, tau=tau))


@given(batches(), st.floats(0.01, 2))
def test_ldam_gives_the_rarest_class_the_largest_margin(batch: Batch, margin: float) -> None:
    counts_K = batch[2]
    margin_K = ldam(counts_K, margin=margin).margin_K
    assert margin_K.max().item() == pytest.approx(margin)
    assert margin_K[counts_K.argmin()] == margin_K.max()
    torch.testing.assert_close(margin_K, margin * (counts_K.min() / counts_K) ** 0.25)


@pytest.mark.parametrize("name", losses.names())
@given(data=st.data(), rare=st.integers(1, 3))
def test_loss_and_gradient_are_finite_at_the_edges(
    name: str, data: st.DataObject, rare: int
) -> None:
    """float32; logits that decide everything or nothing; class sizes of a ratio of 10 000."""
    rows = [[0.0, 0.0, 0.0], [1e4, 0.0, -1e4], [-1e4, 1e4, 0.0], [17.0, 0.0, 0.0], [1e-8, 0.0, 0.0]]
    logits_BK = torch.tensor(rows).repeat_interleave(3, dim=0).requires_grad_()
    labels_B = torch.arange(3).repeat(len(rows))
    counts_K = torch.tensor([rare * 1e4, 100.0, rare])
    loss_B = vectorised(name, (logits_BK, labels_B, counts_K), **drawn_knobs(data, name))
    loss_B.sum().backward()
    assert logits_BK.grad is not None
    assert bool(loss_B.isfinite().all()) and bool((loss_B >= 0).all())
    assert bool(logits_BK.grad.isfinite().all())


@pytest.mark.parametrize("name", losses.names())
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(6, 4, dtype=torch.float64, generator=generator).requires_grad_()
    labels_B = torch.tensor([0, 1, 2, 3, 0, 3])
    vectors = losses[name].make(torch.tensor([500.0, 60.0, 7.0, 1.0], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda z_BK: margin_softmax(z_BK, labels_B, vectors), logits_BK)
