"""`--gpus-per-trial auto`: the choice by hand and by its rules, and what it is chosen by."""

from __future__ import annotations

import math

import pytest
from command import invoke
from hypothesis import given
from hypothesis import strategies as st

from imbtune.cli.settings import parse_share
from imbtune.errors import ConfigError
from imbtune.training.cost.shared_device import SharedDeviceResult
from imbtune.tuning.cluster.resources import Node, check_gpu_fraction
from imbtune.tuning.forecast.gpu_share import (
    MAX_MEMORY,
    MIN_GAIN,
    TOGETHER,
    _line,
    candidates,
    choose,
    one_of_each_kind,
)


def shared(*rates: float, memory: int = 1) -> list[SharedDeviceResult]:
    """Measured with 1, 2, 4, … trials, of which each takes so much memory."""
    return [
        SharedDeviceResult(count, count * memory, rate)
        for count, rate in zip(TOGETHER, rates, strict=False)
    ]


@pytest.mark.parametrize(
    ("rates", "memory", "chosen"),
    [
        ((100, 200, 400, 800), 1, 8),
        ((100, 190, 300, 320), 1, 4),  # 8 gain 7 %
        ((100, 100, 100, 100), 1, 1),
        ((100, 60, 40, 20), 1, 1),
        ((100, 105, 120, 121), 1, 4),  # 2 gain too little, 4 enough over 1
        ((100, 109.9, 109.9, 110.1), 1, 8),
        ((100, 200, 400, 800), 20, 4),  # 4 take 80 of 100, 8 would take 160
        ((100, 200, 400, 800), 23, 2),  # 4 take 92: they fit, but without room
        ((100, 200, 400, 800), 99, 1),  # even one has no room
        ((100, 200), 1, 2),  # 4 ran out of memory
        ((100,), 1, 1),
    ],
)
def test_the_most_trials_that_fit_and_still_gain_a_tenth(
    rates: tuple[float, ...], memory: int, chosen: int
) -> None:
    assert choose(shared(*rates, memory=memory), 100) == chosen


@given(
    st.lists(st.floats(1, 1e6), min_size=1, max_size=4),
    st.integers(1, 60),
    st.floats(0.1, 10),
)
def test_a_choice_fits_and_gains_in_any_unit(rates: list[float], memory: int, unit: float) -> None:
    measured = shared(*rates, memory=memory)
    chosen = choose(measured, 100)
    (one,) = (each for each in measured if each.trials == chosen)
    assert chosen == 1 or (
        one.memory <= 100 * MAX_MEMORY and one.rate >= MIN_GAIN * measured[0].rate
    )
    fits = [each for each in measured if each.memory <= 100 * MAX_MEMORY]
    assert all(each.rate < MIN_GAIN * one.rate for each in fits if each.trials > chosen)
    other = [SharedDeviceResult(each.trials, each.memory, unit * each.rate) for each in measured]
    if math.log2(unit).is_integer():  # else the last bit of a rate may decide
        assert choose(other, 100) == chosen


@given(
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 8)), min_size=1, max_size=4),
    st.integers(1, 100),
    st.none() | st.integers(1, 4),
    st.none() | st.integers(1, 40),
)
def test_candidates_have_their_cpus_on_every_gpu(
    sizes: list[tuple[int, int]], trials: int, cpus: int | None, concurrent: int | None
) -> None:
    nodes = [Node(*size) for size in sizes]
    counts = candidates(nodes, trials, cpus, concurrent)
    assert counts[0] == 1
    assert counts == sorted(counts)
    for count in counts[1:]:
        assert all(count * node.gpus * (cpus or 1) <= node.cpus for node in nodes)
        assert count < 1 + min(trials, concurrent or trials) / sum(node.gpus for node in nodes)
    for count in counts:
        check_gpu_fraction(1 / count)


def test_candidates_of_a_large_machine_and_of_a_small_one() -> None:
    assert candidates([Node(16, 1)], 100, None, None) == [1, 2, 4, 8]
    assert candidates([Node(16, 1), Node(8, 2)], 100, None, None) == [1, 2, 4]
    assert candidates([Node(16, 1)], 100, 4, None) == [1, 2, 4]
    assert candidates([Node(16, 2)], 100, None, 5) == [1, 2]  # 3 on a GPU at most
    assert candidates([Node(1, 4)], 100, None, None) == [1]


def test_one_machine_of_each_kind_is_measured() -> None:
    nodes = [
        Node(8, 1, "T4", "a"),
        Node(16, 1, "T4", "b"),
        Node(8, 2, "H100", "c"),
        Node(4, 1, "", "d"),
    ]
    chosen = one_of_each_kind(nodes)
    assert {kind: node.id for kind, node in chosen.items()} == {"T4": "b", "H100": "c", "": "d"}


def test_the_line_has_the_figures_of_each_kind_and_one_share() -> None:
    one = {"": (shared(100, 190), math.inf)}
    assert _line(one, 2) == (
        "--gpus-per-trial auto: 1 / 2 trials on a GPU train 100 / 190 images per second; chosen: "
        "--gpus-per-trial 0.5\n"
    )
    small, large = shared(100, memory=2**30), shared(500, 900, memory=2**30)
    both = {"T4": (small, 4.0 * 2**30), "H100": (large, 80.0 * 2**30)}
    assert _line(both, min(choose(*each) for each in both.values())) == (
        "--gpus-per-trial auto: 1 trial on T4 trains 100 images per second and use 1.0 of its 4 "
        "GiB; 1 / 2 trials on H100 train 500 / 900 images per second and use 1.0 / 2.0 of its 80 "
        "GiB; chosen: --gpus-per-trial 1, the largest share that a kind needs\n"
    )


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(60, 200)), min_size=1, max_size=4))
def test_the_share_of_all_kinds_fits_on_each(kinds: list[tuple[int, int]]) -> None:
    measured = [(shared(100, 200, 400, 800, memory=need), total) for need, total in kinds]
    chosen = min(choose(*each) for each in measured)
    for each, total in measured:
        (one,) = (result for result in each if result.trials == chosen)
        assert chosen == 1 or one.memory <= MAX_MEMORY * total


def test_what_is_typed_is_a_number_or_auto() -> None:
    assert [parse_share(text) for text in ("auto", "0.25", "2")] == ["auto", 0.25, 2.0]
    with pytest.raises(ConfigError, match=r"--gpus-per-trial 'half': give 1/n such as 0.25"):
        parse_share("half")


def test_a_plan_measures_no_share() -> None:
    code, _, error = invoke("plan", "digits-lt", "--gpus-per-trial", "auto")
    assert code == 2
    assert error == (
        "error: --gpus-per-trial auto cannot be forecast, only a search measures it: give 1/n, or "
        "leave it out\n"
    )
