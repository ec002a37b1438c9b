"""What is done to a finished head: the parts' arithmetic against the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imbtune.methods.posthoc import (
    Adjustment,
    Retraining,
    classifier_retraining,
    learnable_weight_scaling,
    logit_adjustment,
    posthoc_methods,
    tau_norm,
)
from imbtune.models.networks import CosineHead, LinearHead

sizes = st.lists(st.integers(1, 10**6), min_size=2, max_size=8)
ONE = torch.tensor(1.0, dtype=torch.float64)


def random_logits(seed: int, classes: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 * torch.randn(20, classes, generator=generator, dtype=torch.float64)


def adjusted(made: Adjustment, logits_BK: Tensor) -> Tensor:
    """What the finished model does with its logits."""
    return made.scale_K * logits_BK + made.bias_K


@given(sizes, st.floats(0, 10), st.floats(0.1, 100), st.integers(0, 10**6))
def test_logit_adjustment_takes_the_log_prior_away(
    counts: list[int], tau: float, scale: float, seed: int
) -> None:
    """Menon et al.: softmax over s·z_k - τ·log π_k, and so the same argmax."""
    counts_K = torch.tensor(counts, dtype=torch.float64)
    logits_BK = random_logits(seed, len(counts))
    made = logit_adjustment(counts_K, torch.ones_like(counts_K), scale * ONE, tau=tau)
    got_BK = scale * adjusted(made, logits_BK)
    for z, got in zip(logits_BK.tolist(), got_BK.tolist(), strict=True):
        literal = [
            scale * z_k - tau * math.log(n_k / sum(counts))
            for z_k, n_k in zip(z, counts, strict=True)
        ]
        assert got == pytest.approx(literal, rel=1e-9, abs=1e-9)
        first, second = sorted(literal)[-1:-3:-1]
        if first - second > 1e-6:
            assert got.index(max(got)) == literal.index(first)


def test_at_scale_30_the_prior_is_that_of_the_softmax_not_of_the_cosines() -> None:
    """A cosine head: 0.1 more of a cosine is 3 in the softmax, less than the prior's log 100."""
    counts_K = torch.tensor([5000.0, 50.0])
    cosine_BK = torch.tensor([[0.5, 0.4], [0.5, 0.3]])
    made = logit_adjustment(counts_K, torch.ones(2), torch.tensor(30.0))
    assert adjusted(made, cosine_BK).argmax(1).tolist() == [1, 0]
    plain = logit_adjustment(counts_K, torch.ones(2), torch.tensor(1.0))
    assert adjusted(plain, cosine_BK).argmax(1).tolist() == [1, 1]


@given(sizes, st.floats(0, 10), st.integers(0, 10**6))
def test_logit_adjustment_of_equal_classes_changes_no_difference(
    counts: list[int], tau: float, seed: int
) -> None:
    counts_K = torch.full((len(counts),), float(counts[0]), dtype=torch.float64)
    logits_BK = random_logits(seed, len(counts))
    made = logit_adjustment(counts_K, torch.ones_like(counts_K), ONE, tau=tau)
    torch.testing.assert_close(
        adjusted(made, logits_BK).softmax(1), logits_BK.softmax(1), rtol=1e-9, atol=1e-12
    )


@given(st.integers(2, 6), st.integers(1, 5), st.floats(0, 3), st.integers(0, 10**6))
def test_tau_norm_divides_the_class_vectors(
    classes: int, features: int, tau: float, seed: int
) -> None:
    """Kang et al.: w̃_k = w_k/‖w_k‖^τ, on a linear head itself."""
    torch.manual_seed(seed)
    head = LinearHead(features, classes).double()
    points_BD = torch.randn(9, features, dtype=torch.float64)
    made = tau_norm(torch.ones(classes), head.norms(), ONE, tau=tau)
    weight_KD = head.weight.tolist()
    literal = [
        [
            sum(w_d / math.hypot(*w) ** tau * f_d for w_d, f_d in zip(w, f, strict=True))
            for w in weight_KD
        ]
        for f in points_BD.tolist()
    ]
    expected = torch.tensor(literal, dtype=torch.float64)
    torch.testing.assert_close(adjusted(made, head(points_BD)), expected)


@given(sizes, st.integers(0, 10**6))
def test_tau_0_is_nothing(counts: list[int], seed: int) -> None:
    counts_K = torch.tensor(counts, dtype=torch.float64)
    logits_BK = random_logits(seed, len(counts))
    for make in (tau_norm, logit_adjustment):
        made = make(counts_K, counts_K.sqrt(), 30 * ONE, tau=0.0)
        assert torch.equal(adjusted(made, logits_BK), logits_BK)


@given(st.integers(2, 6), st.floats(0, 3))
def test_tau_norm_leaves_a_cosine_head_alone(classes: int, tau: float) -> None:
    norms_K = CosineHead(3, classes).norms()
    made = tau_norm(torch.ones(classes), norms_K, torch.tensor(30.0), tau=tau)
    assert torch.equal(made.scale_K, torch.ones(classes))
    assert torch.equal(made.bias_K, torch.zeros(classes))


@given(st.floats(0.01, 1), st.floats(0, 10))
def test_second_stages_say_what_is_learnt_how_long_and_how_fast(share: float, lr: float) -> None:
    at = (torch.tensor([5.0, 2.0]), torch.ones(2), torch.tensor(1.0))
    crt = classifier_retraining(*at, share=share, lr=lr)
    assert crt == Retraining("new", share=share, lr=lr)
    lws = learnable_weight_scaling(*at, share=share, lr=lr)
    assert lws == Retraining("frozen", share=share, lr=lr, factors=True)


def test_a_finisher_changes_the_head_or_asks_for_a_stage_or_does_nothing() -> None:
    counts_K = torch.tensor([500.0, 40.0, 1.0])
    kinds = {}
    for entry in posthoc_methods:
        made = entry.make(counts_K, counts_K.sqrt(), torch.tensor(30.0))
        kinds[entry.name] = type(made)
        if isinstance(made, Adjustment):
            assert made.scale_K.shape == made.bias_K.shape == (3,)
            assert bool(made.scale_K.isfinite().all() and made.bias_K.isfinite().all())
    assert kinds == {
        "none": type(None),
        "logit_adjustment": Adjustment,
        "tau_norm": Adjustment,
        "crt": Retraining,
        "lws": Retraining,
        "gcl": Retraining,
        "mislas": Retraining,
    }
