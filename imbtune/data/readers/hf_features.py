"""Hugging Face's description of a table's columns, in the metadata of its schema: class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from imbtune import strict_json

KEY = b"huggingface"
JsonObject = Mapping[str, object]


@dataclass(frozen=True)
class Features:
    """The description of each column.

    Attributes:
        features: by the column's name; empty if there is none.
        problem: why a description that is there cannot be read; else empty.
    """

    features: JsonObject = field(default_factory=dict)
    problem: str = ""


def read_features(schema: pa.Schema) -> Features:
    """The description of the columns."""
    text = (schema.metadata or {}).get(KEY)
    if text is None:
        return Features()
    try:
        about = strict_json.loads(text)
    except ValueError:  # also bytes that are not UTF-8
        return Features(problem="the metadata of Hugging Face in it is not JSON")
    if isinstance(about, dict) and "info" not in about:
        return Features()
    info = about.get("info") if isinstance(about, dict) else None
    if isinstance(info, dict) and info.get("features") is None:
        return Features()
    features = info.get("features") if isinstance(info, dict) else None
    if not isinstance(features, dict):
        return Features(problem="the metadata of Hugging Face in it does not describe its columns")
    return Features(features)


def class_names(schema: pa.Schema, label: str) -> tuple[tuple[str, ...], str]:
    """The class names of a column, in the order of their numbers, and why they cannot be read.

    Returns:
        The names, empty if there are none; and the reason, empty unless there should be some.
    """
    found = read_features(schema)
    if found.problem:
        return (), found.problem
    if label not in found.features:
        return (), ""
    feature = found.features[label]
    if not isinstance(feature, Mapping):
        return (), f"its description of '{label}' is none"
    names = feature.get("names")
    if names is None and type_of(feature) != "ClassLabel":
        return (), ""
    if listed := _in_order(names):
        return listed, ""
    return (), f"'{label}' is described as a class label, and its names are no list of names"


def type_of(feature: object) -> object:
    """The type that a column's description states, such as `ClassLabel`; None without one."""
    return feature.get("_type") if isinstance(feature, Mapping) else None


def _in_order(names: object) -> tuple[str, ...]:
    """Names from a list; from `{"0": "ape"}`, as in a data set's card; or from `{"ape": 0}`.

    Empty if they are none of these.
    """
    if isinstance(names, dict):
        numbers: dict[object, object] = {n: k for k, n in names.items() if isinstance(n, int)}
        names = _by_number(numbers if len(numbers) == len(names) else names)
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        return ()
    return tuple(map(str, names))


def _by_number(names: Mapping[object, object]) -> list[object]:
    """The values in the order of their keys, which are the numbers 0, 1, …; empty otherwise."""
    by_text = {str(number): name for number, name in names.items()}
    order = [str(k) for k in range(len(names))]
    return [by_text[number] for number in order] if set(by_text) == set(order) else []
