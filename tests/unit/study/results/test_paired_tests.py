"""Ranks, paired t-tests and Holm's correction, against their definitions and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbtune.study.results.paired_tests import holm, mean_ranks, paired_tests, ranks_of_means

SCORES_RS = np.array([[0.70, 0.72, 0.74], [0.71, 0.71, 0.71], [0.60, 0.72, 0.61]])


def test_ranks_are_those_of_each_seed_averaged() -> None:
    # seed 0: 2, 1, 3; seed 1: rows 0 and 2 share 1 and 2, so 1.5, 3, 1.5; seed 2: 1, 2, 3
    assert mean_ranks(SCORES_RS).tolist() == pytest.approx([4.5 / 3, 2.0, 7.5 / 3])


def test_the_rank_of_the_mean_is_shared_by_equal_means() -> None:
    assert ranks_of_means(SCORES_RS) == [1, 2, 3]
    assert ranks_of_means(np.array([[0.5], [0.7], [0.5], [0.1]])) == [2, 1, 2, 4]


def test_sums_in_another_order_are_equal_scores() -> None:
    one, other = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert sum(one) != sum(other)
    scores_RS = np.array([one, other, [0.0, 0.0, 0.0]])
    assert ranks_of_means(scores_RS) == [1, 1, 3]
    summed_RS = np.array([[sum(one)], [sum(other)], [0.0]])
    assert mean_ranks(summed_RS).tolist() == [1.5, 1.5, 3.0]
    test = paired_tests(np.repeat(summed_RS, 3, axis=1), reference=0)[1]
    assert (test.lead, test.p) == (0.0, 1.0)


def test_a_row_is_tested_as_scipy_tests_it() -> None:
    tests = paired_tests(SCORES_RS, reference=1)
    assert sorted(tests) == [0, 2]
    for i, test in tests.items():
        expected = stats.ttest_rel(SCORES_RS[i], SCORES_RS[1])
        interval = expected.confidence_interval(0.95)
        assert test.p == pytest.approx(expected.pvalue)
        assert (test.low, test.high) == pytest.approx((interval.low, interval.high))
        assert test.lead == pytest.approx(SCORES_RS[i].mean() - 0.71)


def test_one_seed_tells_a_lead_but_no_p() -> None:
    (test,) = paired_tests(np.array([[0.7], [0.6]]), reference=0).values()
    assert test.lead == pytest.approx(-0.1)
    assert (test.low, test.high, test.p, test.p_holm) == (None, None, None, None)


def test_runs_that_are_equal_do_not_differ() -> None:
    """Also without a spread: SciPy would divide by 0."""
    tests = paired_tests(np.array([[0.5, 0.6], [0.5, 0.6], [0.25, 0.35]]), reference=0)
    assert (tests[1].lead, tests[1].p, tests[1].p_holm) == (0.0, 1.0, 1.0)
    assert tests[2].p == pytest.approx(0.0, abs=1e-9)


def test_a_row_alone_has_nothing_to_be_tested_against() -> None:
    assert paired_tests(np.array([[0.5, 0.6]]), reference=0) == {}


def test_holm_by_hand() -> None:
    # sorted: 0.01·4, 0.02·3 = 0.06, 0.03·2 = 0.06, 0.5·1
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])  # never below a smaller p's, 0.4·2
    assert holm([0.9, 0.8]) == [1.0, 1.0]  # a probability
    assert holm([]) == []


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for p, fixed in zip(p_values, corrected, strict=True):
        assert p <= fixed <= min(1.0, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
