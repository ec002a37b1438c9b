"""Blends, label rules and the product of both with the pairings, against literal formulas."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from points import Located, located
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError
from imbtune.methods.mixing.blending import (
    Blend,
    Pairs,
    blend_images,
    blends,
    cutmix_blend,
    linear_blend,
    shifted_blend,
)
from imbtune.methods.mixing.label_rules import (
    hard_label,
    label_rules,
    linear_label,
    margin_aware_label,
    remix_label,
)
from imbtune.methods.mixing.mix import MixOptions, mixes
from imbtune.methods.mixing.pairing import pairings
from imbtune.training.device.device_data import DeviceData

shares = st.floats(0, 1)
sizes = st.integers(1, 10_000)
pairs = st.lists(st.tuples(shares, sizes, sizes), min_size=1, max_size=20)  # (λ, n_i, n_j)
Drawn = list[tuple[float, int, int]]


def columns(drawn: Drawn, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
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
def test_margin_aware_label_is_the_papers(drawn: Drawn, omega: float) -> None:
    literal = [literal_mamix(*pair, omega) for pair in drawn]
    assert margin_aware_label(*columns(drawn), omega=omega).tolist() == pytest.approx(literal)


@given(pairs, st.floats(1, 10), shares)
def test_remix_label_is_the_papers(drawn: Drawn, kappa: float, tau: float) -> None:
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
def test_margin_aware_with_omega_0_is_mixup(drawn: Drawn) -> None:
    g_B = margin_aware_label(*columns(drawn), omega=0.0)
    torch.testing.assert_close(g_B, linear_label(*columns(drawn)))


@given(pairs, shares)
def test_remix_with_a_huge_kappa_is_mixup(drawn: Drawn, tau: float) -> None:
    g_B = remix_label(*columns(drawn), kappa=1e5, tau=tau)
    assert torch.equal(g_B, linear_label(*columns(drawn)))


@pytest.mark.parametrize("rule", ["linear", "remix", "margin_aware"])
@given(drawn=pairs)
def test_swapping_the_two_images_swaps_their_labels(rule: str, drawn: Drawn) -> None:
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


@pytest.mark.parametrize("rule", label_rules.names())
@given(data=st.data(), drawn=pairs, labels=st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_a_mixed_label_sums_to_1_whatever_the_knobs(
    rule: str, data: st.DataObject, drawn: Drawn, labels: tuple[int, int]
) -> None:
    knobs = {
        name: data.draw(st.floats(parameter.knob.low, parameter.knob.high), name)
        for name, parameter in label_rules[rule].knobs.items()
    }
    g_B = label_rules[rule].make(*columns(drawn), **knobs)
    label_BK = torch.zeros(len(drawn), 5, dtype=torch.float64)
    label_BK[:, labels[0]] += g_B
    label_BK[:, labels[1]] += 1 - g_B
    assert bool(((label_BK >= 0) & (label_BK <= 1)).all())
    torch.testing.assert_close(label_BK.sum(1), torch.ones(len(drawn), dtype=torch.float64))


@given(st.lists(shares, min_size=1, max_size=9), sizes, st.floats(0, 4), st.floats(1.01, 9), shares)
def test_in_a_batch_of_one_class_the_label_is_mixed_as_the_image_is(
    lam: list[float], n: int, omega: float, kappa: float, tau: float
) -> None:
    lam_B, n_B, _ = columns([(share, n, n) for share in lam])
    torch.testing.assert_close(margin_aware_label(lam_B, n_B, n_B, omega=omega), lam_B)
    assert torch.equal(remix_label(lam_B, n_B, n_B, kappa=kappa, tau=tau), lam_B)
    assert torch.equal(hard_label(lam_B, n_B, n_B), torch.ones(len(lam), dtype=torch.float64))


@pytest.mark.parametrize(
    ("lam", "n_i", "n_j", "g"),
    [
        (0.5, 30, 10, 0.5),  # λ < τ is strict
        (0.49, 30, 10, 0.0),  # n_i/n_j ≥ κ is not
        (0.49, 29, 10, 0.49),
        (0.5, 10, 30, 0.5),  # 1-λ < τ is strict
        (0.51, 10, 30, 1.0),
        (0.51, 10, 29, 0.51),
        (0.0, 30, 10, 0.0),
        (1.0, 30, 10, 1.0),
    ],
)
def test_remix_at_its_two_borders(lam: float, n_i: int, n_j: int, g: float) -> None:
    assert remix_label(*columns([(lam, n_i, n_j)])).item() == g


# ---- blends ----------------------------------------------------------------------------------


def alike(shape: tuple[int, int], size: tuple[int, int] = (8, 6)) -> Pairs:
    """Pairs of classes of one size."""
    return Pairs(size, np.full(shape, 10.0), np.full(shape, 10.0))


@pytest.mark.parametrize("name", blends.names())
@pytest.mark.parametrize("shape", [(50, 40), (50, 1)])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0, 10.0])
def test_lambda_is_a_share_and_the_draws_repeat(
    name: str, shape: tuple[int, int], alpha: float
) -> None:
    """One λ a sample, or one a batch; of the latter UniMix makes a sample's by the two classes."""
    n_i_SB, n_j_SB = np.random.default_rng(8).integers(1, 10**6, (2, 50, 40)).astype(float)
    first, again = (
        blends[name].make(
            shape, Pairs((8, 6), n_i_SB, n_j_SB), np.random.default_rng(3), alpha=alpha
        )
        for _ in range(2)
    )
    assert first.lam_SB.shape == ((50, 40) if name == "shifted" else shape)
    assert ((first.lam_SB >= 0) & (first.lam_SB <= 1)).all()
    assert np.array_equal(first.lam_SB, again.lam_SB)
    assert (first.box_SB4 is None) == (name != "cutmix")


def literal_unimix(u: float, n_i: int, n_j: int) -> float:
    """The UniMix factor of the paper: Beta shifted by the share of the other class, wrapped."""
    lam = u + n_j / (n_i + n_j)
    return lam - 1 if lam > 1 else lam


@given(sizes, sizes, st.floats(0.05, 5), st.integers(0, 10**6))
def test_the_shifted_lambda_is_unimix(n_i: int, n_j: int, alpha: float, seed: int) -> None:
    shape = (3, 4)
    counts = Pairs((8, 8), np.full(shape, float(n_i)), np.full(shape, float(n_j)))
    drawn = shifted_blend(shape, counts, np.random.default_rng(seed), alpha=alpha)
    u_SB = np.random.default_rng(seed).beta(alpha, alpha, shape)
    literal = [literal_unimix(u, n_i, n_j) for u in u_SB.ravel()]
    assert drawn.lam_SB.ravel().tolist() == pytest.approx(literal, abs=1e-12)


@given(sizes, sizes, st.integers(0, 10**6))
def test_unimix_gives_the_rarer_image_the_most(n_i: int, n_j: int, seed: int) -> None:
    """A small α draws u near 0 or 1, and both fall on the share n_j/(n_i+n_j) of x_i."""
    shape = (20, 50)
    counts = Pairs((8, 8), np.full(shape, float(n_i)), np.full(shape, float(n_j)))
    lam_SB = shifted_blend(shape, counts, np.random.default_rng(seed), alpha=0.01).lam_SB
    share = n_j / (n_i + n_j)
    away_SB = np.abs(lam_SB - share)
    assert (np.minimum(away_SB, 1 - away_SB) < 0.01).mean() > 0.9  # on the circle: 0 is 1


@dataclass(frozen=True)
class At:
    """An epoch, as far as the options ask."""

    index: int
    warmup: float
    cooldown_epochs: int
    full: int = 100
    cooldown_index: int = 0


@given(
    st.sampled_from(["keep", "wait"]),
    st.sampled_from(["keep", "stop"]),
    st.integers(0, 20),
    st.floats(0, 20),
    st.integers(0, 5),
)
def test_mixing_waits_for_the_warmup_and_stops_for_the_cooldown(
    early: str, late: str, index: int, warmup: float, cooldown_epochs: int
) -> None:
    mixed = True
    if early == "wait" and index < warmup:
        mixed = False
    if late == "stop" and cooldown_epochs > 0:
        mixed = False
    assert MixOptions(early=early, late=late).mixes_in(At(index, warmup, cooldown_epochs)) == mixed


@given(st.integers(1, 300), st.floats(0.01, 0.5), st.floats(0.001, 1), st.integers(1, 60))
def test_mixing_can_wait_for_a_share_of_the_run_and_stop_for_a_share_of_the_cooldown(
    full: int, wait: float, stop: float, cooldown: int
) -> None:
    options = MixOptions(early="wait", wait_share=wait, late="stop", stop_share=stop)
    trunk = [options.mixes_in(At(i, 5, 0, full)) for i in range(full)]
    assert trunk == [i >= wait * full for i in range(full)]
    late = [options.mixes_in(At(full, 5, cooldown, full, i)) for i in range(cooldown)]
    assert late.count(False) == max(1, round(stop * cooldown))
    assert late == sorted(late, reverse=True)  # the end is what is not mixed


@pytest.mark.parametrize("alpha", [0.1, 1.0, 8.0])
def test_linear_lambda_has_the_moments_of_beta(alpha: float) -> None:
    lam_SB = linear_blend(
        (200, 200), alike((200, 200)), np.random.default_rng(0), alpha=alpha
    ).lam_SB
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
    drawn = cutmix_blend(
        (2, 5), alike((2, 5), (height, width)), np.random.default_rng(seed), alpha=alpha
    )
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
    drawn = cutmix_blend((1, 4), alike((1, 4), (height, width)), np.random.default_rng(seed))
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


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_smote_points_lie_on_the_segment_between_two_of_one_class(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), [9, 4, 1]))
    pixels = rng.integers(0, 256, (14, 1, 3, 2))
    index_SB = rng.integers(0, 14, (2, 8))
    mix = mixes["smote"].make(neighbours=k)
    partner_SB = mix.pairing(index_SB, Located(labels, pixels=pixels.reshape(14, -1)), rng)
    lam_SB = mix.blend((2, 8), alike((2, 8)), rng).lam_SB
    assert np.array_equal(labels[partner_SB], labels[index_SB])
    lam_B = torch.from_numpy(lam_SB[0])
    assert bool((mix.label(lam_B, lam_B, lam_B) == 1).all())
    x_i, x_j = (torch.from_numpy(pixels[at[0]]).double() for at in (index_SB, partner_SB))
    mixed = blend_images(x_i, x_j, lam_B, None)
    for b, share in enumerate(lam_SB[0]):
        torch.testing.assert_close(mixed[b], x_j[b] + share * (x_i[b] - x_j[b]))
        assert bool((mixed[b] >= torch.minimum(x_i[b], x_j[b]) - 1e-9).all())
        assert bool((mixed[b] <= torch.maximum(x_i[b], x_j[b]) + 1e-9).all())


# ---- the product -----------------------------------------------------------------------------

PRODUCT = list(itertools.product(pairings.names(), blends.names(), label_rules.names()))
every_point = pytest.mark.parametrize("point", PRODUCT, ids="+".join)


@every_point
def test_every_point_of_the_product_mixes(
    point: tuple[str, str, str], device_data: DeviceData
) -> None:
    mix = mixes["+".join(point)].make()
    labels_N, counts_K = device_data.host_labels_N, device_data.counts_K.astype(float)
    index_SB = np.arange(80).reshape(4, 20)
    rng = np.random.default_rng(0)
    partner_SB = mix.pairing(index_SB, located(device_data), rng)
    sizes_i, sizes_j = counts_K[labels_N[index_SB]], counts_K[labels_N[partner_SB]]
    blend: Blend = mix.blend((4, 20), Pairs((8, 8), sizes_i, sizes_j), rng)
    g_SB = mix.label(*(torch.from_numpy(a) for a in (blend.lam_SB, sizes_i, sizes_j)))
    assert partner_SB.shape == blend.lam_SB.shape == tuple(g_SB.shape) == (4, 20)
    assert bool(((g_SB >= 0) & (g_SB <= 1)).all())
    assert mix.aligned == (point[0] in ("same_class_knn", "any_class_knn"))


@every_point
def test_every_point_has_the_knobs_of_its_parts_and_their_defaults(
    point: tuple[str, str, str],
) -> None:
    parts = zip((pairings, blends, label_rules), point, strict=True)
    own = {
        name: parameter
        for registry, part in parts
        for name, parameter in registry[part].knobs.items()
    }
    shared = mixes.shared_knobs
    assert set(own) & set(shared) == set()
    assert mixes["+".join(point)].knobs == own | shared
    knobs = TrainConfig.from_settings({"mix": "+".join(point)}).mix.knobs
    assert knobs == {name: parameter.default for name, parameter in (own | shared).items()}


def test_the_knobs_of_a_product_reach_its_parts(device_data: DeviceData) -> None:
    point = mixes["any_class_knn+cutmix+margin_aware"]
    mix = point.make(omega=0.7, alpha=0.3, neighbours=2, space="features")
    columns_B = columns([(0.3, 100, 5), (0.6, 2, 50)])
    assert torch.equal(mix.label(*columns_B), margin_aware_label(*columns_B, omega=0.7))
    drawn = mix.blend((2, 3), alike((2, 3)), np.random.default_rng(1))
    expected = cutmix_blend((2, 3), alike((2, 3)), np.random.default_rng(1), alpha=0.3)
    assert np.array_equal(drawn.lam_SB, expected.lam_SB)
    index_SB = np.zeros((9, 9), dtype=np.int64)
    images = located(device_data)
    partner_SB = mix.pairing(index_SB, images, np.random.default_rng(1))
    assert images.asked == [(2, False, "features")]
    nearest, _ = images.nearest(2, False, "features")
    assert set(partner_SB.ravel()) == set(nearest[0])


NAMED: list[tuple[str, str, dict[str, Any]]] = [
    ("smote", "same_class_knn+linear+hard", {"neighbours": 5, "alpha": 1.0}),
    ("soft_smote", "any_class_knn+linear+linear", {"neighbours": 5, "alpha": 1.0}),
    ("mixup", "shuffle+linear+linear", {"alpha": 1.0}),
    ("remix", "shuffle+linear+remix", {"alpha": 1.0, "kappa": 3.0, "tau": 0.5}),
    ("mamix", "shuffle+linear+margin_aware", {"alpha": 1.0, "omega": 0.25}),
    ("cutmix", "shuffle+cutmix+linear", {"alpha": 1.0}),
    (
        "cmo",
        "tail_weighted+cutmix+linear",
        {"alpha": 1.0, "power": 1.0, "probability": 0.5, "early": "wait"},
    ),
    (
        "unimix",
        "tail_weighted+shifted+linear",
        {"alpha": 0.8, "power": 0.5, "draw": "sample"},
    ),
]


@pytest.mark.parametrize(("name", "point", "defaults"), NAMED)
def test_named_methods_are_points_of_the_product_with_their_papers_defaults(
    name: str, point: str, defaults: dict[str, Any], device_data: DeviceData
) -> None:
    own, product = mixes[name], mixes[point]
    assert own.knobs.keys() == product.knobs.keys()
    usual = {
        "draw": "batch",
        "probability": 1.0,
        "by_class": "equal",
        "early": "keep",
        "wait_share": 0.0,
        "late": "keep",
        "stop_share": 1.0,
    }
    values = {key: parameter.default for key, parameter in own.knobs.items()}
    known = usual | defaults | {"space": "pixels"}
    assert values == {key: known[key] for key in values}
    parts = {key: value for key, value in values.items() if key not in usual}
    one, other = own.make(**parts), product.make(**parts)
    columns_B = columns([(0.4, 500, 5), (0.3, 5, 500), (0.9, 7, 7)])
    assert torch.equal(one.label(*columns_B), other.label(*columns_B))
    index_SB = np.arange(60).reshape(3, 20)
    for part, at in (
        ("pairing", (index_SB, located(device_data))),
        ("blend", ((3, 4), alike((3, 4)))),
    ):
        drawn = [getattr(mix, part)(*at, np.random.default_rng(0)) for mix in (one, other)]
        for first, again in zip(*drawn, strict=True):
            assert np.array_equal(first, again)


def test_every_named_method_is_tested_here() -> None:
    assert ["none", *(name for name, _, _ in NAMED)] == mixes.names()


@pytest.mark.parametrize("name", ["shuffle+linear", "shuffle+linear+margins", "a+b+c+d", "mixupp"])
def test_what_is_no_product_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^unknown (mix|label) '[^\n]+$"):
        mixes[name]
