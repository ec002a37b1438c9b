"""The Pareto front, against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.metrics.metric import metric_from
from imbtune.metrics.pareto import crowding_distances, front_ranks, ranked_by_front
from imbtune.study.evidence import objective_means
from imbtune.study.front import front_of
from imbtune.study.outcome import FrontTrial
from imbtune.study.records import FinalRecord

SCORES = st.integers(1, 3).flatmap(
    lambda m: st.lists(
        st.tuples(*[st.integers(-3, 3).map(float) for _ in range(m)]), min_size=1, max_size=9
    )
)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


@given(SCORES)
@settings(max_examples=60)
def test_ranks_are_those_of_the_definition(scores: list[tuple[float, ...]]) -> None:
    """The front are the trials that none dominates; the next rank the front of the others."""
    expected: dict[int, int] = {}
    left, rank = set(range(len(scores))), 0
    while left:
        front = {i for i in left if not any(dominates(scores[j], scores[i]) for j in left)}
        expected |= dict.fromkeys(front, rank)
        left, rank = left - front, rank + 1
    assert front_ranks(scores).tolist() == [expected[i] for i in range(len(scores))]


def test_crowding_distances_are_those_of_the_neighbours() -> None:
    """By hand: (0, 4), (1, 3), (4, 0); the inner one's neighbours are the whole range apart."""
    assert crowding_distances([(1, 3), (0, 4), (4, 0)]).tolist() == [2.0, np.inf, np.inf]
    assert crowding_distances([(0, 4), (1, 3), (2, 1), (4, 0)])[1] == pytest.approx(2 / 4 + 3 / 4)
    assert crowding_distances([(1.0, 1.0)]).tolist() == [np.inf]


def test_the_order_begins_with_the_ends_of_the_front() -> None:
    scores = [(0.0, 4.0), (1.0, 3.0), (2.0, 1.0), (4.0, 0.0), (0.0, 0.0), (1.0, 2.9)]
    order = ranked_by_front(scores).tolist()
    assert order[:2] == [3, 0] and set(order[2:4]) == {1, 2} and order[4:] == [5, 4]
    assert ranked_by_front(np.zeros((0, 2))).tolist() == []


@given(SCORES)
@settings(max_examples=40)
def test_with_one_objective_the_order_is_that_of_the_score(scores: list[tuple[float, ...]]) -> None:
    ones = [entry[0] for entry in scores]
    got = ranked_by_front([(score,) for score in ones]).tolist()
    assert [ones[i] for i in got] == sorted(ones, reverse=True)


def test_means_over_all_seeds_decide_which_trials_are_on_the_front() -> None:
    """By hand. Trial 1 is dominated by trial 2; trial 4 lacks a seed."""
    objectives = [metric_from("accuracy"), metric_from("brier")]
    runs = {
        1: [(0.6, 0.4), (0.8, 0.4)],
        2: [(0.8, 0.4), (0.8, 0.2)],
        3: [(0.6, 0.1), (0.8, 0.2)],
        4: [(1.0, 0.0)],
    }
    finals = [
        FinalRecord(trial, seed, score, {"brier": brier})
        for trial, own in runs.items()
        for seed, (score, brier) in enumerate(own)
    ]
    means = objective_means(finals, objectives)
    assert means.keys() == {1, 2, 3}
    front = front_of(means)
    assert [found.trial for found in front] == [2, 3]
    assert front[1].scores == pytest.approx((0.7, -0.15))
    assert front_of({4: [1.0, 1.0], 2: [0.8, 0.7]}) == [FrontTrial(4, (1.0, 1.0))]
    assert front_of({}) == []


def test_equal_trials_are_all_on_the_front() -> None:
    scores = list(itertools.repeat([0.5, 0.5], 3))
    assert [found.trial for found in front_of(dict(enumerate(scores)))] == [0, 1, 2]
