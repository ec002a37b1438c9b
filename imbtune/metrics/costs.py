"""What errors cost: as a space file has it, as a matrix and in words. Shapes: K classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from imbtune.errors import ConfigError, shown, unknown
from imbtune.metrics.class_names import find_class, spelling_key
from imbtune.metrics.predictions import Floats

_NUMBER = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
COSTS = rf"\{{[\s\S]*\}}|({_NUMBER}( {_NUMBER})*(; {_NUMBER}( {_NUMBER})*)*)?"
BY_NAME = "give the costs of errors by class names, such as {fraud: {normal: 20}}"
MOST, NAMED = 6, 2  # costs that are told, and in a title


def cost_matrix(costs: str, names: Sequence[str]) -> Floats:
    """The matrix (K, K) that the text means; 1 for each error where it is empty.

    Args:
        costs: a row for each class, `0 1; 10 0`; or JSON by the names of the classes,
            `{"fraud": {"normal": 20}}`, in which an error that is not named costs 1.
        names: of the classes.

    Raises:
        ConfigError: it has another number of rows or columns, or a class that there is not.
    """
    classes = len(names)
    costs_KK = 1 - np.eye(classes)
    if costs.startswith("{"):
        for name, row in json.loads(costs).items():
            for predicted, cost in row.items():
                costs_KK[_index(name, names), _index(predicted, names)] = cost
        return costs_KK
    if not costs:
        return costs_KK
    rows = [[float(cost) for cost in row.split()] for row in costs.split(";")]
    if len(rows) != classes or any(len(row) != classes for row in rows):
        lengths = " or ".join(map(str, sorted({len(row) for row in rows})))
        raise ConfigError(
            f"costs: {rows} has {len(rows)} row{'s' * (len(rows) != 1)} of {lengths} numbers: give "
            f"a row for each of the {classes} classes, "
            "with the cost of each predicted class"
        )
    return np.array(rows)


def _index(label: str, names: Sequence[str]) -> int:
    found = find_class(label, names)
    if found is None:
        raise unknown("class in costs", label, names)
    return found


def costs_text(costs: object, key: str) -> str:
    """Costs as the text that :func:`cost_matrix` takes.

    Args:
        costs: a list of rows, a mapping of a class to a mapping of a predicted class to a cost, or
            such a text.
        key: what they set, for messages.

    Raises:
        ConfigError: it is none of these, or a class is given twice, in any spelling.
    """
    if isinstance(costs, str) and costs.lstrip().startswith("{"):
        try:
            costs = json.loads(costs)
        except ValueError as error:
            raise ConfigError(f"{key}: {shown(costs)} is not JSON: {BY_NAME}") from error
    if isinstance(costs, Mapping):
        _check_given_once(costs, key)
        for row in costs.values():
            if not isinstance(row, Mapping):
                raise ConfigError(f"{key}: {shown(costs)}: {BY_NAME}")
            _check_given_once(row, key)
            for cost in row.values():
                is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
                if not is_number or not 0 <= cost < np.inf:
                    raise ConfigError(f"{key}: {shown(cost)} is no cost: give a number from 0 on")
        by_name = {str(k): {str(j): cost for j, cost in row.items()} for k, row in costs.items()}
        return json.dumps(by_name, ensure_ascii=False, allow_nan=False) if by_name else ""
    if isinstance(costs, list):
        rows = [row if isinstance(row, list) else [row] for row in costs]
        return "; ".join(" ".join(map(str, row)) for row in rows)
    if not isinstance(costs, str):
        raise ConfigError(f"{key}: {shown(costs)}: {BY_NAME}")
    return costs


def _check_given_once(names: Iterable[object], key: str) -> None:
    """ConfigError for a class in two spellings, of which only one could count."""
    given: dict[str, str] = {}
    for name in map(str, names):
        other = given.get(spelling_key(name))
        if other is not None:
            also = f", also as '{other}'" if other != name else ""
            raise ConfigError(f"{key}: class '{name}' is given twice{also}: give it once")
        given[spelling_key(name)] = name


def costs_in_words(costs: str, names: Sequence[str]) -> str:
    """The costs other than 1 for an error, the six largest of many, by the names of classes."""
    unlike = _unusual(costs, names)
    if not unlike:
        return "every error costs 1"
    told = [
        f"an image of '{label}' that is predicted "
        + ("rightly" if predicted == label else f"as '{predicted}'")
        + f" costs {cost:g}"
        for label, predicted, cost in unlike[:MOST]
    ]
    if left := len(unlike) - len(told):
        told.append(f"{left} more have other costs")
    errors = sum(label != predicted for label, predicted, _ in unlike)
    if errors < len(names) * (len(names) - 1):
        told.append(f"every {'other ' if errors else ''}error costs 1")
    return "; ".join(told)


def costs_by_name(costs: str, names: Sequence[str]) -> str:
    """The same costs as JSON by the names of the classes, without those that are 1 for an error."""
    rows: dict[str, dict[str, float]] = {}
    for label, predicted, cost in _unusual(costs, names):
        rows.setdefault(label, {})[predicted] = cost
    return json.dumps(rows, ensure_ascii=False, allow_nan=False) if rows else ""


def given_costs(costs: str) -> str:
    """The same for a table, the two largest of many: `costs 'fraud' as 'normal' 20`."""
    if not costs:
        return "1 an error"
    if not costs.startswith("{"):
        rows = costs.count(";") + 1
        return f"costs of {rows} × {rows} classes"
    given = [
        (label, as_, cost) for label, row in json.loads(costs).items() for as_, cost in row.items()
    ]
    return _brief(sorted((each for each in given if _is_unusual(*each)), key=lambda one: -one[2]))


def _brief(unlike: Sequence[tuple[str, str, float]]) -> str:
    if not unlike:
        return "1 an error"
    pairs = [f"'{label}' as '{as_}' {cost:g}" for label, as_, cost in unlike[:NAMED]]
    left = len(unlike) - len(pairs)
    return f"costs {', '.join(pairs)}{f' and {left} more' if left else ''}"


def _unusual(costs: str, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """The costs that are not the usual ones, the largest first: class, predicted class, cost."""
    costs_KK = cost_matrix(costs, names)
    given = [
        (i, j, float(costs_KK[k, n])) for k, i in enumerate(names) for n, j in enumerate(names)
    ]
    return sorted((one for one in given if _is_unusual(*one)), key=lambda one: -one[2])


def _is_unusual(label: str, predicted: str, cost: float) -> bool:
    """Whether it is neither 1 for an error nor 0 for a right prediction."""
    return cost != (0 if label == predicted else 1)
