"""Blends, label rules and the product of both with the pairings, against literal formulas."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imbtune.errors import ConfigError
from imbtune.methods.mixing import (
    Blend,
    blend_images,
    blends,
    cutmix_blend,
    label_rules,
    linear_blend,
    linear_label,
    margin_aware_label,
    mixes,
    pairings,
    remix_label,
)
from imbtune.training.device_data import DeviceData

shares = st.floats(0, 1)
sizes = st.integers(1, 10_000)
pairs = st.lists(st.tuples(shares, sizes, sizes), min_size=1, max_size=20)  # (λ, n_i, n_j)
Pairs = list[tuple[float, int, int]]


def columns(drawn: Pairs, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    lam_B, n_i_B, n_j_B = (torch.tensor(column, dtype=dtype) for column in zip(*drawn, strict=True))
    return lam_B, n_i_B, n_j_B


# ---- label rules -----------------------------------------------------------------------------


def literal_mamix(lam: float, n_i: int, n_j: int, omega: float) -> float:
    """As `_mamix_drw.py` has it, where λ_x is the share of x_j."""
    lam_x = 1 - lam
    gamma_i, gamma_j = n_i**-omega, n_j**-omega
    m: float = gamma_i / (gamma_i + gamma_j)
    if lam_x < m:
        return 1 - lam_x / (2 * m)
    if lam_x > m:
        return (1 - lam_x) / (2 * (1 - m))
    return 0.5


def literal_remix(lam: float, n_i: int, n_j: int, kappa: float, tau: float) -> float:
    if n_i / n_j >= kappa and lam < tau:
        return 0.0
    if n_i / n_j <= 1 / kappa and 1 - lam < tau:
        return 1.0
    return lam


@given(pairs, st.floats(0, 1))
def test_margin_aware_label_is_the_papers(drawn: Pairs, omega: float) -> None:
    literal = [literal_mamix(*pair, omega) for pair in drawn]
    assert margin_aware_label(*columns(drawn), omega=omega).tolist() == pytest.approx(literal)


@given(pairs, st.floats(1, 10), shares)
def test_remix_label_is_the_papers(drawn: Pairs, kappa: float, tau: float) -> None:
    literal = [literal_remix(*pair, kappa, tau) for pair in drawn]
    assert remix_label(*columns(drawn), kappa=kappa, tau=tau).tolist() == literal


@pytest.mark.parametrize(("share", "mamix", "remix"), [(0.1, 0.21, 0.1), (0.6, 0.74, 1.0)])
def test_the_tail_image_gets_the_published_share_of_the_label(
    share: float, mamix: float, remix: float
) -> None:
    """Class sizes 50 and 5000, whichever of the two comes first; it pins which way round λ is."""
    for rule, expected in ((margin_aware_label, mamix), (remix_label, remix)):
        tail_first = rule(*columns([(share, 50, 5000)]))
        head_first = rule(*columns([(1 - share, 5000, 50)]))
        assert tail_first.item() == pytest.approx(expected, abs=0.005)
        assert 1 - head_first.item() == pytest.approx(expected, abs=0.005)


@given(pairs)
def test_margin_aware_with_omega_0_is_mixup(drawn: Pairs) -> None:
    g_B = margin_aware_label(*columns(drawn), omega=0.0)
    torch.testing.assert_close(g_B, linear_label(*columns(drawn)))


@given(pairs, shares)
def test_remix_with_a_huge_kappa_is_mixup(drawn: Pairs, tau: float) -> None:
    g_B = remix_label(*columns(drawn), kappa=1e5, tau=tau)
    assert torch.equal(g_B, linear_label(*columns(drawn)))


@pytest.mark.parametrize("rule", ["linear", "remix", "margin_aware"])
@given(drawn=pairs)
def test_swapping_the_two_images_swaps_their_labels(rule: str, drawn: Pairs) -> None:
    lam_B, n_i_B, n_j_B = columns([(round(lam * 64) / 64, i, j) for lam, i, j in drawn])
    label = label_rules[rule].make
    torch.testing.assert_close(label(1 - lam_B, n_j_B, n_i_B), 1 - label(lam_B, n_i_B, n_j_B))


@given(sizes, sizes, st.floats(0, 1))
def test_margin_aware_label_is_half_where_the_margins_meet(
    n_i: int, n_j: int, omega: float
) -> None:
    m = n_i**-omega / (n_i**-omega + n_j**-omega)
    g_B = margin_aware_label(*columns([(1 - m, n_i, n_j)]), omega=omega)
    assert g_B.item() == pytest.approx(0.5, abs=1e-8)


RULES: list[tuple[str, dict[str, float]]] = [(name, {}) for name in label_rules.names()]
RULES += [("remix", {"kappa": k, "tau": tau}) for k in (1.0, 1e4) for tau in (0.0, 1.0)]
RULES += [("margin_aware", {"omega": omega}) for omega in (0.0, 1.0, 4.0)]


@pytest.mark.parametrize(("rule", "knobs"), RULES)
def test_label_shares_stay_within_0_and_1_at_the_edges(rule: str, knobs: dict[str, float]) -> None:
    """float32, λ = 0, 1, τ and exactly m; counts of 1, of a ratio of 10 000, and of absurd ones."""
    edge = [0.0, 1e-30, 1e-8, 0.25, 0.5, 1 - 1e-7, 1.0]
    counts = [(1, 1), (1, 10_000), (10_000, 1), (10_000, 10_000), (3, 1), (1, 3)]
    counts += [(1, 10**10), (10**10, 1)]
    margins = [j**w / (i**w + j**w) for i, j in counts for w in (0.25, 1.0, 4.0)]
    drawn = [(lam, i, j) for lam in edge + [1 - m for m in margins] for i, j in counts]
    g_B = label_rules[rule].make(*columns(drawn, torch.float32), **knobs)
    assert g_B.shape == (len(drawn),)
    assert bool(((g_B >= 0) & (g_B <= 1)).all())


@pytest.mark.parametrize("rule", label_rules.names())
@given(n_i=sizes, n_j=sizes)
def test_more_of_an_image_is_never_less_of_its_label(rule: str, n_i: int, n_j: int) -> None:
    lam_B = torch.linspace(0, 1, 101, dtype=torch.float64)
    g_B = label_rules[rule].make(lam_B, torch.full((101,), n_i), torch.full((101,), n_j))
    assert bool((g_B.diff() >= -1e-12).all())
    assert g_B[-1] == 1


# ---- blends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", blends.names())
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0, 10.0])
def test_lambda_is_a_share_and_the_draws_repeat(name: str, alpha: float) -> None:
    first, again = (
        blends[name].make((50, 40), (8, 6), np.random.default_rng(3), alpha=alpha) for _ in range(2)
    )
    assert first.lam_SB.shape == (50, 40)
    assert ((first.lam_SB >= 0) & (first.lam_SB <= 1)).all()
    assert np.array_equal(first.lam_SB, again.lam_SB)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_linear_lambda_has_the_moments_of_beta(alpha: float) -> None:
    lam_SB = linear_blend((200, 200), (8, 8), np.random.default_rng(0), alpha=alpha).lam_SB
    assert lam_SB.mean() == pytest.approx(0.5, abs=0.01)
    assert lam_SB.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def literal_box(lam: float, y: int, x: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """`rand_bbox` of the CutMix authors."""
    height, width = size
    cut_height, cut_width = int(height * np.sqrt(1 - lam)), int(width * np.sqrt(1 - lam))
    return (
        max(y - cut_height // 2, 0),
        min(y + cut_height // 2, height),
        max(x - cut_width // 2, 0),
        min(x + cut_width // 2, width),
    )


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.05, 5), st.integers(0, 10**6))
def test_cutmix_boxes_are_the_papers_and_lambda_is_the_area_left(
    height: int, width: int, alpha: float, seed: int
) -> None:
    drawn = cutmix_blend((2, 5), (height, width), np.random.default_rng(seed), alpha=alpha)
    rng = np.random.default_rng(seed)
    lam_SB = rng.beta(alpha, alpha, (2, 5))
    y_SB, x_SB = rng.integers(0, height, (2, 5)), rng.integers(0, width, (2, 5))
    assert drawn.box_SB4 is not None
    for at in np.ndindex(2, 5):
        top, bottom, left, right = drawn.box_SB4[at].tolist()
        literal = literal_box(float(lam_SB[at]), int(y_SB[at]), int(x_SB[at]), (height, width))
        assert (top, bottom, left, right) == literal
        area = (bottom - top) * (right - left)
        assert drawn.lam_SB[at] == 1 - area / (height * width)


def random_images(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    x_iB, x_jB = torch.randn(2, 4, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return x_iB, x_jB


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_cutmix_shows_x_j_inside_the_box_and_x_i_outside(
    height: int, width: int, seed: int
) -> None:
    x_i, x_j = random_images(seed, height, width)
    drawn = cutmix_blend((1, 4), (height, width), np.random.default_rng(seed))
    assert drawn.box_SB4 is not None
    lam_B, box_B4 = torch.from_numpy(drawn.lam_SB[0]), torch.from_numpy(drawn.box_SB4[0])
    mixed = blend_images(x_i, x_j, lam_B, box_B4)
    for b, (top, bottom, left, right) in enumerate(box_B4.tolist()):
        kept = 0
        for y, x in np.ndindex(height, width):
            inside = top <= y < bottom and left <= x < right
            kept += not inside
            assert torch.equal(mixed[b, :, y, x], (x_j if inside else x_i)[b, :, y, x])
        assert lam_B[b].item() == pytest.approx(kept / (height * width), abs=1e-12)


@given(st.lists(shares, min_size=4, max_size=4), st.integers(0, 10**6))
def test_linear_blend_lies_on_the_segment_at_lambda(lam: list[float], seed: int) -> None:
    x_i, x_j = random_images(seed, 3, 5)
    mixed = blend_images(x_i, x_j, torch.tensor(lam), None)
    for b, share in enumerate(lam):
        torch.testing.assert_close(mixed[b], share * x_i[b] + (1 - share) * x_j[b])


def test_linear_blend_ends_in_the_images_themselves() -> None:
    x_i, x_j = random_images(0, 3, 5)
    assert torch.equal(blend_images(x_i, x_j, torch.ones(4), None), x_i)
    assert torch.equal(blend_images(x_i, x_j, torch.zeros(4), None), x_j)


# ---- the product -----------------------------------------------------------------------------

PRODUCT = list(itertools.product(pairings.names(), blends.names(), label_rules.names()))


@pytest.mark.parametrize("point", PRODUCT, ids="+".join)
def test_every_point_of_the_product_mixes(
    point: tuple[str, str, str], device_data: DeviceData
) -> None:
    mix = mixes["+".join(point)].make()
    index_SB = np.arange(80).reshape(4, 20)
    rng = np.random.default_rng(0)
    partner_SB = mix.pairing(index_SB, device_data.neighbours, rng)
    blend: Blend = mix.blend((4, 20), (8, 8), rng)
    counts_SB = device_data.counts_K.astype(float)[device_data.host_labels_N[index_SB]]
    g_SB = mix.label(
        torch.from_numpy(blend.lam_SB),
        torch.from_numpy(counts_SB),
        torch.from_numpy(device_data.counts_K[device_data.host_labels_N[partner_SB]]),
    )
    assert partner_SB.shape == blend.lam_SB.shape == tuple(g_SB.shape) == (4, 20)
    assert bool(((g_SB >= 0) & (g_SB <= 1)).all())
    assert mix.aligned == (point[0] != "shuffle")


def test_the_knobs_of_a_product_reach_its_parts(device_data: DeviceData) -> None:
    mix = mixes["any_class_knn+cutmix+margin_aware"].make(omega=0.7, alpha=0.3, neighbours=2)
    columns_B = columns([(0.3, 100, 5), (0.6, 2, 50)])
    assert torch.equal(mix.label(*columns_B), margin_aware_label(*columns_B, omega=0.7))
    drawn = mix.blend((2, 3), (8, 8), np.random.default_rng(1))
    expected = cutmix_blend((2, 3), (8, 8), np.random.default_rng(1), alpha=0.3)
    assert np.array_equal(drawn.lam_SB, expected.lam_SB)
    index_SB = np.zeros((9, 9), dtype=np.int64)
    partner_SB = mix.pairing(index_SB, device_data.neighbours, np.random.default_rng(1))
    nearest, _ = device_data.neighbours.nearest(2, same_class=False)
    assert set(partner_SB.ravel()) == set(nearest[0])


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("smote", "same_class_knn+linear+hard"),
        ("soft_smote", "any_class_knn+linear+linear"),
        ("mixup", "shuffle+linear+linear"),
        ("remix", "shuffle+linear+remix"),
        ("mamix", "shuffle+linear+margin_aware"),
        ("cutmix", "shuffle+cutmix+linear"),
    ],
)
def test_named_methods_are_points_of_the_product(name: str, point: str) -> None:
    assert mixes[name].parameters == mixes[point].parameters
    columns_B = columns([(0.4, 500, 5), (0.3, 5, 500), (0.9, 7, 7)])
    named, product = mixes[name].make(), mixes[point].make()
    assert torch.equal(named.label(*columns_B), product.label(*columns_B))
    lam_SB, box_SB4 = named.blend((3, 4), (8, 8), np.random.default_rng(0))
    again = product.blend((3, 4), (8, 8), np.random.default_rng(0))
    assert np.array_equal(lam_SB, again.lam_SB)
    assert (box_SB4 is None) == (again.box_SB4 is None) == (name != "cutmix")


@pytest.mark.parametrize("name", ["shuffle+linear", "shuffle+linear+margins", "a+b+c+d", "mixupp"])
def test_what_is_no_product_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^unknown (mix|label) '[^\n]+$"):
        mixes[name]
