"""The arcsine scale: there and back, and one variance for all shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbtune.study.uncertainty.arcsine import ArcsineScale

BOUNDS = st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-12.5, 0.0)])


@given(BOUNDS, st.floats(0, 1))
def test_there_and_back(bounds: tuple[float, float], share: float) -> None:
    low, high = bounds
    scale, score = ArcsineScale(low, high), low + share * (high - low)
    assert scale.back(scale.forward(score)) == pytest.approx(score, abs=1e-7)
    assert scale.back(-1.0) == low and scale.back(2.0) == pytest.approx(high)
    assert scale.forward(low - 0.1) == -math.inf and scale.forward(high + 0.1) == math.inf


@given(BOUNDS, st.floats(0.01, 0.99))
def test_the_slope_is_the_derivative(bounds: tuple[float, float], share: float) -> None:
    low, high = bounds
    scale, score, small = ArcsineScale(low, high), low + share * (high - low), 1e-6
    rise = scale.forward(score + small) - scale.forward(score - small)
    assert scale.slope(score) == pytest.approx(rise / (2 * small), rel=1e-3)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_shares_of_n_images_have_the_variance_1_over_4n(share: float) -> None:
    scale = ArcsineScale(0.0, 1.0)
    hits = np.random.default_rng(0).binomial(400, share, 4000)
    assert np.var([scale.forward(h / 400) for h in hits]) == pytest.approx(1 / 1600, rel=0.1)


def test_a_score_at_a_bound_counts_as_half_a_step_inside() -> None:
    scale = ArcsineScale(0.0, 1.0)
    assert scale.inside(1.0, 0.02) == pytest.approx(0.99) and scale.inside(0.5, 0.02) == 0.5
    assert 0 < scale.inside(0.0, 0.0) < 1e-8 and math.isfinite(scale.slope(scale.inside(0.0, 0.0)))


def test_without_a_finite_bound_it_is_the_score() -> None:
    scale = ArcsineScale(-math.inf, 0.0)
    assert not scale.is_bounded and scale.slope(-3.0) == 1
    assert scale.forward(-3.0) == scale.back(-3.0) == scale.inside(-3.0, 0.1) == -3.0
