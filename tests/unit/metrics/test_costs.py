"""Costs of errors: by class names, as rows, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from data_files import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.errors import ConfigError
from imbtune.metrics.costs import cost_matrix, costs_in_words
from imbtune.metrics.metric import metric_from, objective_from, objectives
from imbtune.metrics.predictions import ClassCounts, Confusion

NAMES = ["fraud", "nor: mal", "9"]
COUNTS = ClassCounts(NAMES, np.array([5, 50, 20]), np.array([5, 50, 20]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=9, max_size=9))
def test_costs_by_name_are_those_of_the_rows(values: list[float]) -> None:
    rows = np.array(values).reshape(3, 3)
    by_name = {a: {b: rows[i, j] for j, b in enumerate(NAMES)} for i, a in enumerate(NAMES)}
    matrix_KK = np.arange(9).reshape(3, 3)
    confusion = Confusion.of(matrix_KK, COUNTS.train_K, NAMES)
    found = [
        metric_from({"name": "expected_cost", "costs": costs}).value(confusion)
        for costs in (rows.tolist(), by_name)
    ]
    assert found[0] == pytest.approx(float((rows * matrix_KK).sum() / 36))
    assert found[1] == pytest.approx(found[0])


def test_errors_that_are_not_named_cost_1() -> None:
    metric = objective_from({"name": "expected_cost", "costs": {"fraud": {"nor: mal": 20}, 9: {}}})
    text = str(metric.knobs["costs"])
    assert cost_matrix(text, NAMES).tolist() == [[0, 20, 1], [1, 0, 1], [1, 1, 0]]
    assert metric_from(metric.setting()) == metric
    assert metric.setting() == {
        "name": "expected_cost",
        "costs": {"fraud": {"nor: mal": 20}, "9": {}},
    }
    older = {"name": "expected_cost", "costs": '{"fraud": {"nor: mal": 20}, "9": {}}'}
    assert metric_from(older) == metric
    assert "an image of 'fraud' that is predicted as 'nor: mal' costs 20;" in costs_in_words(
        text, NAMES
    )
    rows = metric_from({"name": "expected_cost", "costs": [[0, 20, 1], [1, 0, 1], [1, 1, 0]]})
    assert str(rows.named(COUNTS)) == "negative expected_cost (costs 'fraud' as 'nor: mal' 20)"
    assert metric.title(COUNTS) == "expected_cost (costs 'fraud' as 'nor: mal' 20)"
    assert metric.range_on(COUNTS)[1] == pytest.approx((5 * 20 + 50 + 20) / 75)


def test_a_right_prediction_that_costs_something_is_told() -> None:
    """A fraud that is found costs 2, too; all errors cost 1."""
    metric = metric_from({"name": "expected_cost", "costs": {"fraud": {"fraud": 2}}})
    matrix_KK = np.diag([4, 0, 0])
    assert metric.value(Confusion.of(matrix_KK, COUNTS.train_K, NAMES)) == 2
    assert metric.title(COUNTS) == "expected_cost (costs 'fraud' as 'fraud' 2)"
    assert costs_in_words(str(metric.knobs["costs"]), NAMES) == (
        "an image of 'fraud' that is predicted rightly costs 2; every error costs 1"
    )
    every: dict[str, Any] = {"name": "expected_cost", "costs": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]}
    assert metric_from(every).title(COUNTS) == "expected_cost (1 an error)"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[0, 1]], "costs: [[0.0, 1.0]] has 1 row of 2 numbers: give a row for each of the 3 cl"),
        ([[0, 1, 1], [1, 0], [1, 1, 0]], "has 3 rows of 2 or 3 numbers"),
        ([[0, 1, 1], [1, 0, 1]], "has 2 rows of 3 numbers"),
    ],
)
def test_rows_of_another_number_of_classes(rows: list[list[int]], says: str) -> None:
    metric = metric_from({"name": "expected_cost", "costs": rows})
    with raises_one_line(says, kind=ConfigError):
        metric.chance(COUNTS)


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ([[0, -1], [1, 0]], "-1"),
        ([[0, "x"], [1, 0]], "x"),
        ({"fraud": 3}, "by class names, such as {fraud: {normal: 20}}"),
        ({"fraud": {"9": -1}}, "-1 is no cost"),
        ({"fraud": {"9": True}}, "True is no cost"),
        ({"fraud": {"9": float("nan")}}, "nan is no cost"),
        ({"fraud": {"9": "x"}}, "'x' is no cost"),
        ("{fraud", "is not JSON"),
        (3, "by class names"),
    ],
)
def test_what_are_no_costs(costs: object, says: str) -> None:
    with raises_one_line(says, kind=ConfigError):
        metric_from({"name": "expected_cost", "costs": costs})


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ({"fraud": {"ok": 2}, "Fraud": {"ok": 30}}, "'Fraud' is given twice, also as 'fraud': g"),
        ({"fraud": {"ok": 2, " OK": 30}}, "class ' OK' is given twice, also as 'ok': give it once"),
        ({"fraud": {"caf\u00e9": 2, "cafe\u0301": 3}}, "is given twice, also as"),
        (
            {"9": {"ok": 2}, 9: {"ok": 30}},
            "objective.costs: class '9' is given twice: give it once",
        ),
    ],
)
def test_a_class_that_is_given_twice(costs: object, says: str) -> None:
    """In the data, two spellings are one class; so only one of the costs could count."""
    with raises_one_line(says, kind=ConfigError):
        objective_from({"name": "expected_cost", "costs": costs})


def test_letters_differ_in_their_case() -> None:
    metric = metric_from({"name": "expected_cost", "costs": {"a": {"b": 2}, "A": {"b": 3}}})
    matrix_KK = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert metric.value(Confusion.of(matrix_KK, np.ones(3, int), ["a", "A", "b"])) == 5 / 3


def test_a_class_that_there_is_not() -> None:
    metric = metric_from({"name": "expected_cost", "costs": {"fraud": {"normal": 2}}})
    with raises_one_line("unknown class in costs 'normal': did you mean", kind=ConfigError):
        metric.chance(COUNTS)


def test_another_spelling_of_a_class() -> None:
    assert cost_matrix('{"FRAUD": {"Nor: mal ": 20}}', NAMES)[0].tolist() == [0, 20, 1]
    assert COUNTS.index("Fraud ") == 0
    assert ClassCounts(["a", "A"], np.array([1, 2]), np.array([1, 1])).index("A") == 1


def test_an_unknown_objective_lists_all_that_there_are() -> None:
    """And no metric that can be none, such as `few`."""
    with raises_one_line(*objectives(), kind=ConfigError) as raised:
        objective_from("nope")
    for name in ("many", "medium", "few", "…", "more"):
        assert f" {name}" not in str(raised.value)


NAMED = '{"my_cat": {"dog": 5, "b{r}d": 0.5}, "dog": {"my_cat": 20}}'


@pytest.mark.parametrize(
    ("setting", "score", "value"),
    [
        (
            {"name": "expected_cost", "costs": json.loads(NAMED)},
            "negative expected cost (costs 'dog' as 'my_cat' 20, 'my_cat' as 'dog' 5 and 1 more)",
            "expected cost (costs 'dog' as 'my_cat' 20, 'my_cat' as 'dog' 5 and 1 more)",
        ),
        (
            {"name": "expected_cost", "costs": [[0, 1], [10, 0]]},
            "negative expected cost (costs of 2 × 2 classes)",
            "expected cost (costs of 2 × 2 classes)",
        ),
        ("expected_cost", "negative expected cost (1 an error)", "expected cost (1 an error)"),
        (
            {"name": "recall_at_precision", "precision": 0.8, "of": "a_b"},
            "recall at precision (precision ≥ 0.8, of 'a_b')",
            "recall at precision (precision ≥ 0.8, of 'a_b')",
        ),
        ({"name": "f_beta", "beta": 0.5}, "f beta (beta 0.5)", "f beta (beta 0.5)"),
    ],
)
def test_an_objective_is_plain_words_in_titles(setting: object, score: str, value: str) -> None:
    """Without JSON, and with the classes' own underscores."""
    metric = metric_from(setting)
    assert (metric.words(), metric.words(of_a_score=False)) == (score, value)
    assert str(metric).removeprefix("negative ").startswith(metric.name)
    assert str(metric).partition("(")[2] == score.partition("(")[2]


def test_costs_with_the_same_words_are_told_apart() -> None:
    one, other = (
        metric_from({"name": "expected_cost", "costs": [[0, cost], [1, 0]]}) for cost in (2, 3)
    )
    assert one.words() == other.words() and one.identity() != other.identity()
