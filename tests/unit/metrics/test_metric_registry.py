"""What a metric declares is checked when it is registered, not in the middle of a search."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from data_files import raises_one_line

from imbtune.errors import ConfigError
from imbtune.metrics.metric import compute, metric_from
from imbtune.metrics.metric_registry import CONFUSION, HIGHER, POSITIVE, Spread, metrics
from imbtune.metrics.predictions import Confusion
from imbtune.registry import Knob

DECLARED: dict[str, Any] = {
    "needs": CONFUSION,
    "spread": Spread.CLASSES,
    "chance": lambda _counts, **_knobs: 0.0,
}
CONFUSED = Confusion.of(np.array([[3, 1], [1, 1]]), np.array([9, 3]))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    names = metrics.names()
    yield
    for name in set(metrics.names()) - set(names):
        metrics.remove(name)
    assert metrics.names() == names


def register(**declared: Any) -> None:
    metrics.register("mine", help="a plugin's", **declared)(mine)


def mine(
    _confusion: Confusion,
    *,
    k: Annotated[int, Knob("neighbours", 1, 100)] = 20,
    of: Annotated[float, Knob("of what", 0, 1)] = 0.5,
    costs: Annotated[str, Knob("a word", choices=("none", "all"))] = "none",
) -> float:
    """Its knobs have the names of other metrics' knobs, and other meanings."""
    return k + of + len(costs)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"needs": None}, "metric 'mine' declares no needs: register it with needs=…"),
        ({"spread": None}, "metric 'mine' declares no spread: register it with spread=…"),
        ({"chance": None}, "metric 'mine' declares no chance: register it with chance=…"),
        ({"lower": True}, "unknown trait of metric 'mine' 'lower': did you mean 'low"),
        ({"needs": "images"}, "metric 'mine': needs='images': give one of confusion, logits"),
        ({"spread": "classes"}, "metric 'mine': spread='classes': give one of Spread.CLASSES, Spr"),
        ({"better": -1}, "metric 'mine': better=-1: give one of higher, lower"),
        ({"low": 1.0}, "metric 'mine': low=1 is not below high=1"),
        ({"words": {"kk": "{}"}}, "unknown knob in the words of metric 'mine' 'kk': did you mean"),
        (
            {"chance": lambda _: 0.0},
            "metric 'mine': chance: got an unexpected keyword argument 'k'",
        ),
        ({"chance": 0.5}, "chance: it is no function: give a function of one argument, k, of, cos"),
        ({"range_on": lambda **_: (0, 1)}, "metric 'mine': range_on: too many positional argumen"),
        ({"tells_nothing": lambda: ""}, "metric 'mine': tells_nothing: too many positional argum"),
    ],
)
def test_what_a_metric_must_declare(changes: dict[str, Any], says: str) -> None:
    declared = {**DECLARED, **changes}
    with raises_one_line(says, kind=ConfigError):
        register(**{name: value for name, value in declared.items() if value is not None})
    assert "mine" not in metrics.names()


def test_a_metric_of_one_class_has_a_knob_for_it() -> None:
    with raises_one_line("declares of_nothing, and has no knob of", kind=ConfigError):
        metrics.register("mine", help="", of_nothing=POSITIVE, **DECLARED)(lambda _: 1.0)


def test_defaults_of_what_is_declared() -> None:
    register(**DECLARED)
    traits = metrics.traits("mine")
    assert (traits.better, traits.low, traits.high) == (HIGHER, 0, 1)
    assert traits.has_chance_level and traits.of_nothing is None


def test_knobs_are_not_known_by_their_names() -> None:
    """20 neighbours are no k of top-k, which tells nothing of two classes; `of` is no class."""
    register(**DECLARED)
    metric = metric_from("mine")
    assert metric.tells_of(2) and metric.of_class(CONFUSED.counts) is None
    assert compute(CONFUSED)["mine"] == metric.value(CONFUSED) == 20 + 0.5 + 4
    assert metric.costs is None and metric.named(CONFUSED.counts) == metric
    assert metric.title(CONFUSED.counts) == "mine (k 20, of 0.5, costs none)"
    given = {"name": "mine", "k": 3, "of": 1.0, "costs": "all"}
    assert metric_from(given).setting() == given
