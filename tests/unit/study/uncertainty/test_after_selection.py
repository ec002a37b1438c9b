"""Estimates that were chosen because they are large, against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbtune.study.uncertainty.after_selection import LEVEL, after_selection

INF = math.inf


def test_without_a_choice_it_is_nearly_the_ordinary_interval() -> None:
    """The normal one, and Student's with few degrees of freedom."""
    found = after_selection(0.5, 0.1, 1e9)
    half = 0.1 * stats.norm.isf(LEVEL / 2)
    assert found.median == pytest.approx(0.5)
    assert found.high - 0.5 == pytest.approx(half, rel=1e-3)
    assert 0.5 - found.low == pytest.approx(half, rel=1e-3)
    few = after_selection(0.5, 0.1, 4)
    ratio = stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975)
    assert few.high - 0.5 == pytest.approx(ratio * (found.high - 0.5))


@settings(max_examples=50)
@given(st.floats(-5, 5), st.floats(0.01, 3), st.floats(0, 4), st.floats(0, 4), st.integers(1, 1000))
def test_it_is_ordered_and_shifts_and_scales(
    estimate: float, error: float, below: float, above: float, candidates: int
) -> None:
    limits = (estimate - below * error, estimate + above * error)
    found = after_selection(estimate, error, 20, limits, candidates)
    assert found.low < found.median < found.high and 0 <= found.p <= 1
    unit = after_selection(0.0, 1.0, 20, (-below, above), candidates)
    assert found.low == pytest.approx(estimate + error * unit.low, abs=1e-6)
    assert found.high == pytest.approx(estimate + error * unit.high, abs=1e-6)
    mirrored = after_selection(-estimate, error, 20, (-limits[1], -limits[0]), candidates)
    assert mirrored.low == pytest.approx(-found.high, abs=1e-6)
    assert mirrored.p == pytest.approx(found.p, abs=1e-6)


@settings(max_examples=50)
@given(st.floats(-6, 6), st.floats(0, 3), st.integers(1, 300))
def test_p_agrees_with_the_interval(estimate: float, below: float, candidates: int) -> None:
    found = after_selection(estimate, 1.0, 10, (estimate - below, INF), candidates)
    if abs(found.p - LEVEL) > 1e-6:
        assert (found.p < LEVEL) == (not found.low <= 0 <= found.high)


def test_the_closer_the_choice_the_lower_the_estimate() -> None:
    medians = [after_selection(1.0, 0.5, 30, (low, INF), 10).median for low in (-INF, 0, 0.5, 0.9)]
    assert medians == sorted(medians, reverse=True) and medians[0] == pytest.approx(1)


def test_no_error_is_no_doubt() -> None:
    assert after_selection(0.2, 0.0, 5).p == 0 and after_selection(0.0, 0.0, 5).p == 1
    found = after_selection(0.2, 0.0, 5)
    assert (found.low, found.median, found.high) == (0.2, 0.2, 0.2)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_the_best_of_ten_is_covered(spread: float) -> None:
    """The limit is the second best; where nothing differs, the plain interval fails."""
    rng = np.random.default_rng(3)
    held, plain, above = [], [], []
    for _ in range(500):
        truth = spread * rng.standard_normal(10)
        values = truth + rng.standard_normal(10)
        second, best = np.argsort(values)[-2:]
        found = after_selection(values[best], 1.0, 1e9, (values[second], INF), 10)
        held.append(found.low <= truth[best] <= found.high)
        plain.append(abs(values[best] - truth[best]) < 1.96)
        above.append(found.median > truth[best])
    assert 0.93 <= np.mean(held) <= 0.97 and np.mean(plain) < 0.91
    assert np.mean(above) == pytest.approx(0.5, abs=0.07)
