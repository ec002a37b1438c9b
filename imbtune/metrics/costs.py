"""What errors cost: by class names or as a matrix, and in words. Shapes: K classes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from imbtune.errors import ConfigError, shown, unknown
from imbtune.metrics.class_names import find_class, spelling_key
from imbtune.metrics.predictions import Floats

BY_NAME = "give the costs of errors by class names, such as {fraud: {normal: 20}}"
BY_ROW = "give a row for each class, such as [[0, 1], [10, 0]]"
MOST, NAMED = 6, 2  # costs that are told, and in a title


@dataclass(frozen=True)
class Costs:
    """What an image costs, by its class and the predicted one. Made by :func:`costs_from`.

    Every error costs 1 where neither is given. False where every error costs 1 for that reason.

    Attributes:
        by_name: the cost by the names of the class and of the predicted one, each in any spelling;
            an error that is not named costs 1, and a right prediction 0.
        rows: a row for each class, with a number for each predicted one.
    """

    by_name: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rows: Sequence[Sequence[float]] = ()

    def __bool__(self) -> bool:
        return bool(self.by_name or self.rows)

    def matrix(self, names: Sequence[str]) -> Floats:
        """The costs (K, K): a row for each class, a column for each predicted one.

        Args:
            names: of the classes.

        Raises:
            ConfigError: they are rows of another number of classes, or name a class that there is
                not.
        """
        classes = len(names)
        if self.rows and len(self.rows) != classes:
            raise ConfigError(
                f"costs: {shown(self.setting())} has {_numbered(len(self.rows), 'row')}: give a "
                f"row for each of the {classes} classes, with the cost of each predicted class"
            )
        if self.rows:
            return np.array(self.rows, np.float64)
        costs_KK = 1 - np.eye(classes)
        for name, row in self.by_name.items():
            index = _index(name, names)
            for predicted, cost in row.items():
                costs_KK[index, _index(predicted, names)] = cost
        return costs_KK

    def setting(self) -> dict[str, dict[str, float]] | list[list[float]]:
        """As a space file has them, from which :func:`costs_from` makes the same ones."""
        if self.rows:
            return [[*row] for row in self.rows]
        return {name: {**row} for name, row in self.by_name.items()}

    def named(self, names: Sequence[str]) -> Costs:
        """The same costs by the names of the classes, without those that are 1 for an error."""
        rows: dict[str, dict[str, float]] = {}
        for label, predicted, cost in self._unusual(names):
            rows.setdefault(label, {})[predicted] = cost
        return Costs(rows)

    def __str__(self) -> str:
        """In a title, the two largest of many: `costs 'fraud' as 'normal' 20`."""
        if self.rows:
            return f"costs of {len(self.rows)} × {len(self.rows)} classes"
        given = [(k, as_, cost) for k, row in self.by_name.items() for as_, cost in row.items()]
        unlike = _largest_first(given)
        if not unlike:
            return "1 an error"
        pairs = [f"'{label}' as '{as_}' {cost:g}" for label, as_, cost in unlike[:NAMED]]
        left = len(unlike) - len(pairs)
        return f"costs {', '.join(pairs)}{f' and {left} more' if left else ''}"

    def in_words(self, names: Sequence[str]) -> str:
        """A sentence on the costs other than 1 for an error, the six largest of many."""
        unlike = self._unusual(names)
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

    def _unusual(self, names: Sequence[str]) -> list[tuple[str, str, float]]:
        costs_KK = self.matrix(names)
        return _largest_first(
            [
                (i, j, float(costs_KK[k, n]))
                for k, i in enumerate(names)
                for n, j in enumerate(names)
            ]
        )


EVERY_ERROR_1 = Costs()


def costs_from(setting: object, key: str) -> Costs:
    """The costs of a setting.

    Args:
        setting: a list or an array of rows; a mapping of a class to a mapping of a predicted class
            to a cost; or either as a JSON text, as a text in quotes on the command line is. 1 for
            each error where it is empty.
        key: what it sets, for messages.

    Raises:
        ConfigError: it is none of these, a cost is no number from 0 on, there are not as many rows
            as columns, or a class is given twice, in any spelling.
    """
    if isinstance(setting, Costs):
        return setting
    given = _parsed(setting, key) if isinstance(setting, str) and setting.strip() else setting
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, list | tuple):
        return Costs(rows=_rows(given, key))
    if isinstance(given, Mapping):
        return Costs(_by_name(given, key))
    if isinstance(given, str):  # an empty text, as the default is written
        return EVERY_ERROR_1
    raise ConfigError(f"{key}={shown(setting)} are no costs: {BY_NAME}")


def _parsed(text: str, key: str) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        _check_given_once([name for name, _ in pairs], key)
        return dict(pairs)

    try:
        found: object = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{key}={shown(text)} is a text that is no matrix: {BY_NAME}, without quotes"
        ) from error
    return found


def _rows(given: Sequence[object], key: str) -> tuple[tuple[float, ...], ...]:
    rows = []
    for row in given:
        if not isinstance(row, list | tuple):
            raise ConfigError(f"{key}={shown(given)}: {shown(row)} is no row: {BY_ROW}")
        rows.append(tuple(_cost(cost, key) for cost in row))
    lengths = sorted({len(row) for row in rows})
    if lengths not in ([], [len(rows)]):
        raise ConfigError(
            f"{key}={shown(given)}: {_numbered(len(rows), 'row')} of "
            f"{' or '.join(map(str, lengths))} numbers: give a row for each class, with the cost "
            "of each predicted class"
        )
    return tuple(rows)


def _by_name(given: Mapping[object, object], key: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    _check_given_once(given, key)
    for name, row in given.items():
        if not isinstance(row, Mapping):
            raise ConfigError(
                f"{key}={shown(given)}: {shown(row)} is no mapping of predicted classes: {BY_NAME}"
            )
        _check_given_once(row, key)
        found[str(name)] = {str(predicted): _cost(cost, key) for predicted, cost in row.items()}
    return found


def _cost(value: object, key: str) -> float:
    """The number as it was given; of a text, which YAML makes of 1e4, the one that it is."""
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 <= number < math.inf:
        raise ConfigError(f"{key}: {shown(value)} is no cost: give a number from 0 on")
    return value if isinstance(value, int | float) else number


def _check_given_once(names: Iterable[object], key: str) -> None:
    """ConfigError for a class in two spellings, of which only one could count."""
    given: dict[str, str] = {}
    for name in map(str, names):
        other = given.get(spelling_key(name))
        if other is not None:
            also = f", also as '{other}'" if other != name else ""
            raise ConfigError(f"{key}: class '{name}' is given twice{also}: give it once")
        given[spelling_key(name)] = name


def _index(label: str, names: Sequence[str]) -> int:
    found = find_class(label, names)
    if found is None:
        raise unknown("class in costs", label, names)
    return found


def _largest_first(costs: Iterable[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    """Those that are neither 1 for an error nor 0 for a right one: class, predicted one, cost."""
    unlike = [one for one in costs if one[2] != (0 if one[0] == one[1] else 1)]
    return sorted(unlike, key=lambda one: -one[2])


def _numbered(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
