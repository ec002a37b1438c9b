"""The margin-softmax family against a slow transcription of each paper's formula."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from imbtune.methods.losses import (
    cloud_noise,
    gcl,
    label_aware_smoothing,
    ldam,
    losses,
    margin_softmax,
    plain_cross_entropy,
)
from imbtune.registry import DeclaredKnob

few = settings(max_examples=25)  # for each of many losses


class Batch(NamedTuple):
    """Logits, classes, class counts, and |δ| of GCL."""

    logits_BK: Tensor
    labels_B: Tensor
    counts_K: Tensor
    noise_BK: Tensor | None = None


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Logits of up to 8 samples for up to 6 classes, in float64, with class counts and noise."""
    size, classes = draw(st.integers(1, 8)), draw(st.integers(2, 6))
    row = st.lists(st.floats(-15, 15), min_size=classes, max_size=classes)
    logits_BK = draw(st.lists(row, min_size=size, max_size=size))
    labels_B = draw(st.lists(st.integers(0, classes - 1), min_size=size, max_size=size))
    counts_K = draw(st.lists(st.integers(1, 10_000), min_size=classes, max_size=classes))
    noise = st.lists(st.floats(0, 1), min_size=classes, max_size=classes)
    noise_BK = draw(st.lists(noise, min_size=size, max_size=size))
    dtype = torch.float64
    return Batch(
        torch.tensor(logits_BK, dtype=dtype),
        torch.tensor(labels_B),
        torch.tensor(counts_K, dtype=dtype),
        torch.tensor(noise_BK, dtype=dtype),
    )


def vectorised(name: str, batch: Batch, **knobs: float | str) -> Tensor:
    vectors = losses[name].make(batch.counts_K, **knobs)
    return margin_softmax(batch.logits_BK, batch.labels_B, vectors, batch.noise_BK)


def cross_entropy(z: list[float], y: int) -> float:
    top = max(z)
    return math.log(sum(math.exp(z_k - top) for z_k in z)) + top - z[y]


# ---- each loss, one sample at a time: logits z, class y, class counts n, |δ| e ------------------

Row = list[float]


def literal_ce(z: Row, y: int, n: Row, e: Row) -> float:
    return cross_entropy(z, y)


def literal_focal(z: Row, y: int, n: Row, e: Row, gamma: float) -> float:
    p_y = math.exp(-cross_entropy(z, y))
    return float(max(1 - p_y, 0) ** gamma * cross_entropy(z, y))


def literal_ldam(z: Row, y: int, n: Row, e: Row, margin: float, scale: float) -> float:
    """CE(s·(z - Δ_y·1[y])) with Δ_k = max_m·n_k^(-1/4)/max_j n_j^(-1/4)."""
    delta_y = margin * n[y] ** -0.25 / max(n_j**-0.25 for n_j in n)
    return cross_entropy([scale * (z_k - delta_y * (k == y)) for k, z_k in enumerate(z)], y)


def literal_balanced_softmax(z: Row, y: int, n: Row, e: Row) -> float:
    """-log(n_y·e^z_y / Σ n_k·e^z_k)."""
    weighted = [n_k * math.exp(z_k) for z_k, n_k in zip(z, n, strict=True)]
    return -math.log(weighted[y] / sum(weighted))


def literal_logit_adjustment(z: Row, y: int, n: Row, e: Row, tau: float) -> float:
    adjusted = [z_k + tau * math.log(n_k / sum(n)) for z_k, n_k in zip(z, n, strict=True)]
    return cross_entropy(adjusted, y)


def literal_vs(z: Row, y: int, n: Row, e: Row, slope: float, tau: float) -> float:
    """CE(z_k·(n_k/n_max)^γ + τ·log π_k)."""
    shifted = [
        z_k * (n_k / max(n)) ** slope + tau * math.log(n_k / sum(n))
        for z_k, n_k in zip(z, n, strict=True)
    ]
    return cross_entropy(shifted, y)


def literal_cdt(z: Row, y: int, n: Row, e: Row, slope: float) -> float:
    """CE(z_k/a_k) with temperatures a_k = (n_max/n_k)^γ."""
    return cross_entropy([z[k] / (max(n) / n[k]) ** slope for k in range(len(z))], y)


def literal_gcl(z: Row, y: int, n: Row, e: Row, noise: float, scale: float) -> float:
    """CE(s·(z_k - noise·|δ_k|·(log n_max - log n_k)/max_j(log n_max - log n_j)))."""
    cloud = [math.log(max(n)) - math.log(n_k) for n_k in n]
    widest = max(cloud) or 1.0  # classes of one size have no cloud
    clouded = [z[k] - noise * e[k] * cloud[k] / widest for k in range(len(z))]
    return cross_entropy([scale * z_k for z_k in clouded], y)


def literal_smoothing(
    z: Row, y: int, n: Row, e: Row, smooth_head: float, smooth_tail: float, curve: str
) -> float:
    """(1-ε_y)·CE(z, y) + ε_y·mean_k CE(z, k), ε by the three equations of MiSLAS."""
    if max(n) == min(n):
        epsilon = smooth_tail
    else:
        x = (n[y] - min(n)) / (max(n) - min(n))
        if curve == "concave":
            epsilon = smooth_tail + (smooth_head - smooth_tail) * math.sin(math.pi / 2 * x)
        elif curve == "linear":
            epsilon = smooth_tail + (smooth_head - smooth_tail) * x
        else:
            turned = math.sin(1.5 * math.pi + math.pi / 2 * x)
            epsilon = smooth_head + (smooth_head - smooth_tail) * turned
    spread = sum(cross_entropy(z, k) for k in range(len(z))) / len(z)
    return (1 - epsilon) * cross_entropy(z, y) + epsilon * spread


LITERAL: dict[str, Any] = {
    "ce": literal_ce,
    "focal": literal_focal,
    "ldam": literal_ldam,
    "balanced_softmax": literal_balanced_softmax,
    "logit_adjustment": literal_logit_adjustment,
    "vs": literal_vs,
    "cdt": literal_cdt,
    "gcl": literal_gcl,
    "label_aware_smoothing": literal_smoothing,
}


def drawn_knobs(data: st.DataObject, name: str) -> dict[str, float | str]:
    """Any valid value of each knob of a loss."""
    return {
        knob: data.draw(values_of(parameter), knob)
        for knob, parameter in losses[name].knobs.items()
    }


def values_of(parameter: DeclaredKnob) -> st.SearchStrategy[float | str]:
    if parameter.knob.choices:
        return st.sampled_from(parameter.knob.choices)
    return st.floats(parameter.knob.low, parameter.knob.high)


def test_every_loss_has_its_formula_here() -> None:
    assert list(LITERAL) == losses.names()


@pytest.mark.parametrize("name", losses.names())
@given(batch=batches(), data=st.data())
@settings(max_examples=60)
def test_the_vectorised_loss_is_the_papers(name: str, batch: Batch, data: st.DataObject) -> None:
    knobs = drawn_knobs(data, name)
    noise_BK = batch.noise_BK
    assert noise_BK is not None
    rows = zip(batch.logits_BK.tolist(), batch.labels_B.tolist(), noise_BK.tolist(), strict=True)
    literal = [LITERAL[name](z, y, batch.counts_K.tolist(), e, **knobs) for z, y, e in rows]
    assert vectorised(name, batch, **knobs).tolist() == pytest.approx(literal, rel=1e-7, abs=1e-9)


NEUTRAL: list[tuple[str, dict[str, Any]]] = [
    ("focal", {"gamma": 0.0}),
    ("ldam", {"margin": 0.0, "scale": 1.0}),
    ("logit_adjustment", {"tau": 0.0}),
    ("vs", {"slope": 0.0, "tau": 0.0}),
    ("cdt", {"slope": 0.0}),
    ("gcl", {"noise": 0.0, "scale": 1.0}),
    *(
        ("label_aware_smoothing", {"smooth_head": 0.0, "smooth_tail": 0.0, "curve": curve})
        for curve in ("concave", "linear", "convex")
    ),
]


@pytest.mark.parametrize(("name", "knobs"), NEUTRAL)
@given(batch=batches())
@few
def test_neutral_knobs_make_it_cross_entropy(
    name: str, knobs: dict[str, Any], batch: Batch
) -> None:
    expected = F.cross_entropy(batch.logits_BK, batch.labels_B, reduction="none")
    torch.testing.assert_close(vectorised(name, batch, **knobs), expected)


@pytest.mark.parametrize(
    "name", ["logit_adjustment", "balanced_softmax", "vs", "cdt", "label_aware_smoothing"]
)
@given(batch=batches(), count=st.integers(1, 10_000))
@few
def test_equal_class_sizes_make_it_cross_entropy(name: str, batch: Batch, count: int) -> None:
    """Logit adjustment with any τ; smoothing has its smallest ε then, which is 0."""
    balanced = batch._replace(counts_K=torch.full_like(batch.counts_K, count))
    expected = F.cross_entropy(batch.logits_BK, batch.labels_B, reduction="none")
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
    counts_K = batch.counts_K
    margin_K = ldam(counts_K, margin=margin).margin_K
    assert margin_K.max().item() == pytest.approx(margin)
    assert margin_K[counts_K.argmin()] == margin_K.max()
    torch.testing.assert_close(margin_K, margin * (counts_K.min() / counts_K) ** 0.25)


@given(batches(), st.floats(0.01, 2), st.floats(1, 100))
def test_gcl_clouds_the_rarest_class_most_and_the_largest_not_at_all(
    batch: Batch, noise: float, scale: float
) -> None:
    counts_K = batch.counts_K
    cloud_K = gcl(counts_K, noise=noise, scale=scale).cloud_K
    assert bool((cloud_K[counts_K == counts_K.max()] == 0).all())
    assert bool((cloud_K[counts_K.argsort()].diff() <= 1e-12).all())
    if counts_K.max() > counts_K.min():
        assert cloud_K.max().item() == pytest.approx(noise)


@given(batches(), st.floats(1, 100))
def test_gcl_without_noise_is_cross_entropy_of_scaled_cosines(batch: Batch, scale: float) -> None:
    """No cloud, or no draw of it: what it is evaluated with."""
    expected = F.cross_entropy(scale * batch.logits_BK, batch.labels_B, reduction="none")
    torch.testing.assert_close(vectorised("gcl", batch, noise=0.0, scale=scale), expected)
    undrawn = batch._replace(noise_BK=None)
    torch.testing.assert_close(vectorised("gcl", undrawn, noise=0.5, scale=scale), expected)


def test_noise_lowers_the_logits_of_rare_classes_and_never_raises_one() -> None:
    """A rare class must win by more than the cloud; a frequent one is spared a rare rival."""
    rare, frequent = torch.tensor([1]), torch.tensor([0])
    vectors = gcl(torch.tensor([5000.0, 50.0]))
    cosine_BK = torch.tensor([[0.3, 0.4]])
    calm = [margin_softmax(cosine_BK, y, vectors).item() for y in (rare, frequent)]
    clouded = [
        margin_softmax(cosine_BK, y, vectors, torch.tensor([[1.0, 1.0]])).item()
        for y in (rare, frequent)
    ]
    assert clouded[0] > calm[0] and clouded[1] < calm[1]
    assert clouded[0] == pytest.approx(math.log(1 + math.exp(30 * (0.3 - (0.4 - 0.5)))), rel=1e-5)


def test_cloud_noise_is_half_a_normal_of_deviation_a_third_clipped_at_1() -> None:
    torch.manual_seed(0)
    noise_BK = cloud_noise((500, 400))
    assert noise_BK.min() >= 0 and noise_BK.max() == 1
    for bound in (0.05, 0.2, 1 / 3, 0.6, 0.9, 0.999):
        below = math.erf(bound * 3 / math.sqrt(2))
        seen = (noise_BK < bound).double().mean().item()
        assert seen == pytest.approx(below, abs=5 * math.sqrt(below * (1 - below) / 200_000))
    torch.manual_seed(0)
    assert torch.equal(cloud_noise((500, 400)), noise_BK)


@pytest.mark.parametrize("curve", ["concave", "linear", "convex"])
@given(batches(), st.floats(0, 1), st.floats(0, 1))
@few
def test_smoothing_goes_from_tail_to_head_along_its_curve(
    curve: str, batch: Batch, head: float, tail: float
) -> None:
    counts_K = batch.counts_K
    smooth_K = label_aware_smoothing(
        counts_K, smooth_head=head, smooth_tail=tail, curve=curve
    ).smooth_K
    low, high = min(head, tail), max(head, tail)
    assert bool(((smooth_K >= low - 1e-9) & (smooth_K <= high + 1e-9)).all())
    assert smooth_K[counts_K.argmin()].item() == pytest.approx(tail)
    if counts_K.max() > counts_K.min():
        assert smooth_K[counts_K.argmax()].item() == pytest.approx(head)
        middle_K = torch.tensor([1.0, 51.0, 101.0], dtype=torch.float64)
        knobs = {"smooth_head": head, "smooth_tail": tail, "curve": curve}
        rise = {"concave": math.sqrt(0.5), "linear": 0.5, "convex": 1 - math.sqrt(0.5)}[curve]
        middle = losses["label_aware_smoothing"].make(middle_K, **knobs).smooth_K[1].item()
        assert middle == pytest.approx(tail + (head - tail) * rise)


@pytest.mark.parametrize("name", ["ce", "balanced_softmax", "logit_adjustment", "vs", "cdt", "gcl"])
@given(batch=batches(), data=st.data())
@few
def test_the_loss_of_a_mixed_label_is_that_of_the_two_hard_ones(
    name: str, batch: Batch, data: st.DataObject
) -> None:
    """Against torch's soft-label cross-entropy, where a loss changes all labels' logits alike."""
    assert batch.noise_BK is not None
    share, other = data.draw(st.floats(0, 1)), batch.labels_B.flip(0)
    knobs, classes = drawn_knobs(data, name), batch.logits_BK.shape[1]
    v = losses[name].make(batch.counts_K, **knobs)
    q_BK = share * F.one_hot(batch.labels_B, classes) + (1 - share) * F.one_hot(other, classes)
    z_BK = v.scale * (v.slope_K * batch.logits_BK - v.cloud_K * batch.noise_BK) + v.bias_K
    hard_i = vectorised(name, batch, **knobs)
    hard_j = vectorised(name, batch._replace(labels_B=other), **knobs)
    expected = F.cross_entropy(z_BK, q_BK, reduction="none")
    torch.testing.assert_close(share * hard_i + (1 - share) * hard_j, expected)


@pytest.mark.parametrize("name", losses.names())
@given(batch=batches())
@few
def test_a_second_stage_on_the_same_head_learns_scaled_cross_entropy(
    name: str, batch: Batch
) -> None:
    vectors = losses[name].make(batch.counts_K)
    expected = F.cross_entropy(vectors.scale * batch.logits_BK, batch.labels_B, reduction="none")
    loss_B = margin_softmax(
        batch.logits_BK, batch.labels_B, plain_cross_entropy(vectors), batch.noise_BK
    )
    torch.testing.assert_close(loss_B, expected)


# ---- numbers at the edges ----------------------------------------------------------------------


def extreme_rows(classes: int) -> Tensor:
    """Logits that decide everything, nothing, or the wrong thing."""
    rows = torch.zeros(6, classes)
    rows[1, 0], rows[1, -1] = 1e4, -1e4
    rows[2, 0], rows[2, -1] = -1e4, 1e4
    rows[3, 0] = 17.0
    rows[4, 0] = 1e-8
    rows[5] = torch.linspace(-1e4, 1e4, classes)
    return rows.bfloat16().float()


@pytest.mark.parametrize("classes", [2, 3, 10, 200])
@pytest.mark.parametrize("name", losses.names())
@given(data=st.data(), smallest=st.integers(1, 3), largest=st.sampled_from([3, 10_000, 10**6]))
@settings(max_examples=20)
def test_loss_and_gradient_are_finite_at_the_edges(
    name: str, classes: int, data: st.DataObject, smallest: int, largest: int
) -> None:
    """float32, of logits that bfloat16 rounded; class sizes of a ratio of up to a million."""
    picked = torch.tensor([0, classes // 2, classes - 1])
    rows = extreme_rows(classes).repeat_interleave(3, dim=0)
    logits_BK = rows.clone().requires_grad_()
    counts_K = torch.logspace(math.log10(largest), math.log10(smallest), classes).round()
    noise_BK = torch.linspace(0, 1, classes).expand(len(rows), -1)
    batch = Batch(logits_BK, picked.repeat(6), counts_K, noise_BK)
    knobs = drawn_knobs(data, name)
    loss_B = vectorised(name, batch, **knobs)
    loss_B.sum().backward()
    assert logits_BK.grad is not None
    assert bool(loss_B.isfinite().all()) and bool((loss_B >= 0).all())
    assert bool(logits_BK.grad.isfinite().all())
    # float32 knows logits of 1e4, up to 100 times that after scaling, to 1e-3 and 6e-2
    exact = Batch(rows.double(), batch.labels_B, counts_K.double(), noise_BK.double())
    torch.testing.assert_close(
        loss_B.double(), vectorised(name, exact, **knobs), rtol=1e-4, atol=6e-2
    )


@pytest.mark.parametrize("name", losses.names())
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(6, 4, dtype=torch.float64, generator=generator).requires_grad_()
    labels_B = torch.tensor([0, 1, 2, 3, 0, 3])
    vectors = losses[name].make(torch.tensor([500.0, 60.0, 7.0, 1.0], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda z_BK: margin_softmax(z_BK, labels_B, vectors), logits_BK)
