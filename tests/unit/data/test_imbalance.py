"""Imbalance profiles: the counts of the papers, and of exact arithmetic; the errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from data_files import raises_one_line
from hypothesis import assume, given
from hypothesis import strategies as st

from imbtune.config.train_config import TrainConfig
from imbtune.data.imbalance import Imbalance, profile_counts
from imbtune.errors import ConfigError
from imbtune.spaces.space_file import load_space

CIFAR10_EXP_100 = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
CINIC10_EXP_100 = [9000, 5395, 3234, 1938, 1162, 696, 417, 250, 150, 90]


def counts(profile: str, ratio: float, n_max: int, classes: int, head: int = 0) -> list[int]:
    """The profile of a balanced data set."""
    available = np.full(classes, n_max)
    kept: list[int] = profile_counts(Imbalance(profile, ratio, head), available).tolist()
    return kept


def test_exp_has_the_published_classes() -> None:
    assert counts("exp", 100, 5000, 10) == CIFAR10_EXP_100
    assert counts("exp", 100, 9000, 10) == CINIC10_EXP_100


@pytest.mark.parametrize(
    ("profile", "ratio", "n_max", "classes", "total"),
    [
        ("exp", 10, 5000, 10, 20431),
        ("exp", 50, 5000, 10, 13996),
        ("exp", 100, 5000, 10, 12406),
        ("exp", 200, 5000, 10, 11203),
        ("exp", 100, 500, 100, 10847),
        ("exp", 100, 9000, 10, 22332),
        ("exp", 100, 1000, 10, 2478),
        ("exp", 100, 500, 200, 21549),
        ("step", 100, 5000, 10, 25250),
        ("step", 100, 500, 100, 25250),
        ("step", 100, 9000, 10, 45450),
        ("step", 100, 1000, 10, 5050),
        ("step", 100, 500, 200, 50500),
    ],
)
def test_published_totals(profile: str, ratio: float, n_max: int, classes: int, total: int) -> None:
    kept = counts(profile, ratio, n_max, classes)
    assert sum(kept) == total
    assert kept[0] == n_max
    assert kept[-1] == n_max // ratio
    assert kept == sorted(kept, reverse=True)


N_MAX = {  # of each benchmark: images of its largest class, classes
    "cifar10": (5000, 10),
    "cifar100": (500, 100),
    "cinic10": (9000, 10),
    "svhn": (1000, 10),
    "tiny_imagenet": (500, 200),
    "fashion_mnist": (6000, 10),
}


@pytest.mark.parametrize("ratio", [10, 50, 100, 200])
@pytest.mark.parametrize("name", N_MAX)
def test_benchmarks_have_the_published_formula(name: str, ratio: int) -> None:
    """As the reference package writes it: int() of the product, f = 1/ratio."""
    n_max, classes = N_MAX[name]
    f = 1 / ratio
    exp = [int(n_max * f ** (k / (classes - 1.0))) for k in range(classes)]
    step = [n_max] * (classes // 2) + [int(n_max * f)] * (classes // 2)
    assert counts("exp", ratio, n_max, classes) == exp
    assert counts("step", ratio, n_max, classes) == step


@pytest.mark.parametrize("name", N_MAX)
def test_spaces_of_the_benchmarks_have_the_counts_that_they_name(name: str) -> None:
    space = load_space(f"{name}-lt")
    n_max, classes = N_MAX[name]
    imbalance = space.base().data.shared
    available = np.full(classes, n_max)
    if name == "svhn":  # as it is there: 1 is the most frequent, 0 the least
        digits = [13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659, 4948]
        available = np.array(digits)
    total = int(profile_counts(imbalance, available).sum())
    assert f"exponential 100:1, {total:,} images" in space.about
    assert imbalance.val_per_class * 2 <= n_max


@pytest.mark.parametrize(
    ("ratio", "n_max", "k", "expected"),
    [
        (49, 49, 9, 1),  # 49 · (1/49) < 1
        (49, 4900, 9, 100),
        (196, 4900, 9, 25),
        (512, 512, 5, 16),  # 512^(-5/9) = 1/32
        (512, 5120, 7, 40),
    ],
)
def test_rounding_loses_no_image(ratio: float, n_max: int, k: int, expected: int) -> None:
    assert counts("exp", ratio, n_max, 10)[k] == expected
    if k == 9:
        assert counts("step", ratio, n_max, 10)[k] == expected


@given(st.integers(2, 30), st.integers(1, 9000), st.data())
def test_exp_is_the_formula_in_exact_arithmetic(classes: int, n_max: int, data: Any) -> None:
    """n = ⌊n_max · r^(-k/(K-1))⌋ is n^(K-1) · r^k ≤ n_max^(K-1) < (n+1)^(K-1) · r^k."""
    ratio = data.draw(st.integers(1, n_max))
    kept = counts("exp", ratio, n_max, classes)
    for k, n in enumerate(kept):
        limit = n_max ** (classes - 1)
        assert n ** (classes - 1) * ratio**k <= limit < (n + 1) ** (classes - 1) * ratio**k
    assert kept == sorted(kept, reverse=True)


@given(st.integers(1, 30), st.integers(1, 9000), st.data())
def test_step_is_the_formula(classes: int, n_max: int, data: Any) -> None:
    ratio = data.draw(st.integers(1, n_max))
    half = classes // 2
    expected = [n_max] * half + [n_max // ratio] * (classes - half)
    assert counts("step", ratio, n_max, classes) == expected


@given(st.integers(2, 100), st.integers(1, 9000), st.floats(1, 9000))
def test_any_ratio_falls_from_head_to_tail(classes: int, n_max: int, ratio: float) -> None:
    assume(ratio <= n_max)
    kept = counts("exp", ratio, n_max, classes)
    assert kept[0] == n_max
    assert n_max / ratio - 1 < kept[-1] <= n_max / ratio * (1 + 1e-9)
    assert kept == sorted(kept, reverse=True)


def test_ratio_one_keeps_all_and_one_class_is_its_own_head() -> None:
    assert counts("exp", 1, 77, 5) == [77] * 5
    assert counts("step", 1, 77, 5) == [77] * 5
    assert counts("exp", 10, 77, 1) == [77]


def test_head_is_the_largest_class() -> None:
    assert counts("exp", 100, 6000, 10, head=5000) == CIFAR10_EXP_100


def test_as_is_keeps_what_there_is() -> None:
    available = np.array([7, 300, 1])
    kept = profile_counts(Imbalance("as_is", ratio=1000), available)
    assert kept.tolist() == [7, 300, 1]
    kept[0] = 0
    assert available[0] == 7


def test_profile_that_unequal_classes_allow() -> None:
    """Class order is label order: the largest class need not be the first."""
    available = np.array([40, 50, 30])
    kept = profile_counts(Imbalance("exp", ratio=4, head=40), available)
    assert kept.tolist() == [40, 20, 10]


@pytest.mark.parametrize("profile", ["exp", "step"])
def test_empty_class_is_refused_with_a_ratio_that_works(profile: str) -> None:
    with raises_one_line("data.ratio=501", "500", "at most 500"):
        counts(profile, 501, 500, 10)
    assert counts(profile, 500, 500, 10)[-1] == 1


def test_large_head_is_refused_with_a_head_that_works() -> None:
    available = np.array([40, 50, 30])
    with raises_one_line("class '0' has 40 images", "41", "data.head") as caught:
        profile_counts(Imbalance("exp", ratio=4, head=41), available)
    fix = re.search(r"data\.head to at most (\d+)", str(caught.value))
    assert fix
    assert profile_counts(Imbalance("exp", 4, int(fix[1])), available)[0] == int(fix[1])


@pytest.mark.parametrize(
    ("knob", "value", "fix"),
    [
        ("data.ratio", 0.5, "at least 1"),
        ("data.ratio", float("nan"), "at least 1"),
        ("data.ratio", float("inf"), "at most 1,000,000,000"),
        ("data.ratio", "steep", "a number"),
        ("data.head", -1, "at least 0"),
        ("data.head", 10.5, "a whole number"),
        ("data.val_per_class", 0, "at least 1"),
        ("data.subset_seed", -3, "at least 0"),
        ("data.profile", "zipf", "as_is, exp, step"),
        ("data.profile", "expo", "did you mean 'exp'"),
        ("data.augment", "strong", "none, shift, shift_flip, standard"),
    ],
)
def test_values_that_cannot_be(knob: str, value: object, fix: str) -> None:
    with raises_one_line(knob, value, fix, kind=ConfigError):
        TrainConfig.from_settings({knob: value})
