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
from imbtune.metrics.costs import Costs, costs_from
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
    assert metric.costs
    assert metric.costs.matrix(NAMES).tolist() == [[0, 20, 1], [1, 0, 1], [1, 1, 0]]
    assert metric_from(metric.setting()) == metric
    assert metric.setting() == {
        "name": "expected_cost",
        "costs": {"fraud": {"nor: mal": 20}, "9": {}},
    }
    words = metric.costs.in_words(NAMES)
    assert words.startswith("an image of 'fraud' that is predicted as 'nor: mal' costs 20;")
    rows = metric_from({"name": "expected_cost", "costs": [[0, 20, 1], [1, 0, 1], [1, 1, 0]]})
    assert rows.title(COUNTS) == "expected_cost (costs 'fraud' as 'nor: mal' 20)"
    assert metric.title(COUNTS) == "expected_cost (costs 'fraud' as 'nor: mal' 20)"
    assert metric.range_on(COUNTS)[1] == pytest.approx((5 * 20 + 50 + 20) / 75)


def test_a_right_prediction_that_costs_something_is_told() -> None:
    """A fraud that is found costs 2, too; all errors cost 1."""
    metric = metric_from({"name": "expected_cost", "costs": {"fraud": {"fraud": 2}}})
    matrix_KK = np.diag([4, 0, 0])
    assert metric.value(Confusion.of(matrix_KK, COUNTS.train_K, NAMES)) == 2
    assert metric.title(COUNTS) == "expected_cost (costs 'fraud' as 'fraud' 2)"
    assert metric.costs and metric.costs.in_words(NAMES) == (
        "an image of 'fraud' that is predicted rightly costs 2; every error costs 1"
    )
    every: dict[str, Any] = {"name": "expected_cost", "costs": [[0, 1, 1], [1, 0, 1], [1, 1, 0]]}
    assert metric_from(every).title(COUNTS) == "expected_cost (1 an error)"


@pytest.mark.parametrize("rows", [[[0]], [[0, 1], [1, 0]]])
def test_rows_of_another_number_of_classes(rows: list[list[int]]) -> None:
    metric = metric_from({"name": "expected_cost", "costs": rows})
    says = f"costs: {rows} has {len(rows)} row{'s' * (len(rows) > 1)}: give a row for each of the 3"
    with raises_one_line(says, kind=ConfigError):
        metric.chance(COUNTS)


@pytest.mark.parametrize(
    "text", ["[[0, 20], [1, 0]]", ' {"a": {"b": 20}}', '{"a": {"b": 20}, "b": {"a": 1}} ']
)
def test_costs_in_quotes_are_those_without_them(text: str) -> None:
    """As in `--metric '{name: expected_cost, costs: "[[0, 20], [1, 0]]"}'`."""
    metric = metric_from({"name": "expected_cost", "costs": text})
    assert metric == metric_from({"name": "expected_cost", "costs": json.loads(text)})
    assert metric.costs and metric.costs.matrix(["a", "b"]).tolist() == [[0, 20], [1, 0]]


@pytest.mark.parametrize("nothing", ["", " ", {}, [], Costs()])
def test_no_costs_are_1_an_error(nothing: object) -> None:
    metric = metric_from({"name": "expected_cost", "costs": nothing})
    assert metric.costs is None and str(metric) == "expected_cost (1 an error)"
    assert metric.value(Confusion.of(np.ones((3, 3), int), COUNTS.train_K, NAMES)) == 6 / 9


@pytest.mark.parametrize("costs", [[[0, 1e4], [0.5, 0]], [[0, "1e4"], [".5", 0]]])
def test_costs_are_written_as_they_were_given(costs: list[list[Any]]) -> None:
    """In YAML 1e4 is a text. A whole number is none with a point, in files as in messages."""
    metric = metric_from({"name": "expected_cost", "costs": costs})
    assert metric.text() == '{"name": "expected_cost", "costs": [[0, 10000.0], [0.5, 0]]}'
    assert metric_from(json.loads(metric.text())) == metric


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ([[0, -1], [1, 0]], "metric.costs: -1 is no cost: give a number from 0 on"),
        ([[0, "x"], [1, 0]], "metric.costs: 'x' is no cost: give a number from 0 on"),
        ([[0, float("nan")], [1, 0]], "metric.costs: nan is no cost"),
        ([[0, 10**400], [1, 0]], "metric.costs: (a number of 400 digits) is no cost"),
        (
            [0, 1, 1, 0],
            "metric.costs=[0, 1, 1, 0]: 0 is no row: give a row for each class, such as [[0, 1], ",
        ),
        ([[0, 1]], "metric.costs=[[0, 1]]: 1 row of 2 numbers: give a row for each class, with "),
        ([[0, 1, 1], [1, 0], [1, 1, 0]], "1, 1, 0]]: 3 rows of 2 or 3 numbers: give a row"),
        ([[0, 1, 1], [1, 0, 1]], "metric.costs=[[0, 1, 1], [1, 0, 1]]: 2 rows of 3 numbers: give"),
        ("[[0, 1], [1, 0]", "metric.costs='[[0, 1], [1, 0]' is a text that is no matrix: give th"),
        ('{"a": {"b": 2}, "a": {"b": 3}}', "metric.costs: class 'a' is given twice: give it once"),
        ("[" * 100_000, "is a text that is no matrix"),
        ("3", "metric.costs='3' are no costs: give the costs of errors by class names, such as {"),
        (None, "metric.costs=None are no costs: give the costs of errors by class names, such as"),
        ({"fraud": 3}, "metric.costs={'fraud': 3}: 3 is no mapping of predicted classes: give t"),
        ({"fraud": {"9": -1}}, "-1 is no cost"),
        ({"fraud": {"9": True}}, "True is no cost"),
        ({"fraud": {"9": float("nan")}}, "nan is no cost"),
        ({"fraud": {"9": "x"}}, "'x' is no cost"),
        ("{fraud", "metric.costs='{fraud' is a text that is no matrix: give the costs of errors"),
        (3, "metric.costs=3 are no costs: give the costs of errors by class names, such as {frau"),
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
    costs = costs_from({"FRAUD": {"Nor: mal ": 20}}, "costs")
    assert costs.matrix(NAMES)[0].tolist() == [0, 20, 1]
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
    assert str(metric).startswith(metric.name)
    assert str(metric).partition("(")[2] == value.partition("(")[2]
    assert metric.score_name == ("negative " if metric.sign < 0 else "") + str(metric)


def test_costs_with_the_same_words_are_told_apart() -> None:
    one, other = (
        metric_from({"name": "expected_cost", "costs": [[0, cost], [1, 0]]}) for cost in (2, 3)
    )
    assert one.words() == other.words() and one.text() != other.text()


def test_an_array_is_a_matrix_of_costs() -> None:
    assert costs_from(np.array([[0, 20], [1, 0]]), "costs") == costs_from(
        [[0, 20], [1, 0]], "costs"
    )


def test_a_list_under_the_key_of_one_objective_names_the_other_key() -> None:
    with pytest.raises(ConfigError, match="is a list: give `objectives` for several"):
        objective_from(["balanced_accuracy", "worst_class"])
