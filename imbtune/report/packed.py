"""Tables and charts for the page: each table once, by columns, compressed."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from imbtune import strict_json

DIGITS = 5  # significant digits of numbers
Column = dict[str, Any]


def packed_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """A table by columns: `n` rows, and of each column its `values`, or `levels` and `codes`.

    Text and booleans are coded: -1 is null. Numbers have `DIGITS` significant digits.
    """
    columns: dict[str, Column] = {}
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_bool_dtype(values.dtype) or not pd.api.types.is_numeric_dtype(
            values.dtype
        ):
            codes, levels = pd.factorize(values)
            columns[str(name)] = {"levels": [_plain(v) for v in levels], "codes": codes.tolist()}
        else:
            columns[str(name)] = {"values": [_rounded(v) for v in values.tolist()]}
    return {"n": len(frame), "columns": columns}


def packed(content: Mapping[str, Any]) -> str:
    """Content as JSON, compressed with gzip, in base64: safe inside any element of a page."""
    text = strict_json.dumps(content)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def unpacked(text: str) -> Any:
    """The inverse of :func:`packed`, as the page's JavaScript does it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def without_tables(spec: dict[str, Any], tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """A chart's specification without its rows, which are added to `tables`.

    Args:
        spec: as Altair makes it, with its tables under `datasets`, named by their content.
        tables: the page's tables so far, by name.
    """
    tables |= {name: pd.DataFrame(rows) for name, rows in spec.get("datasets", {}).items()}
    return {key: value for key, value in spec.items() if key != "datasets"}


def _rounded(value: float | None) -> float | int | None:
    if value is None or pd.isna(value) or math.isinf(value):
        return None
    if float(value).is_integer() and abs(value) < 2**53:
        return int(value)
    return float(f"{value:.{DIGITS}g}")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def names_of(spec: Any) -> Sequence[str]:
    """The tables that a specification reads."""
    if isinstance(spec, list):
        return sorted({name for each in spec for name in names_of(each)})
    if not isinstance(spec, dict):
        return []
    here = (
        [spec["data"]["name"]]
        if isinstance(spec.get("data"), dict) and "name" in spec["data"]
        else []
    )
    return sorted({*here, *(name for value in spec.values() for name in names_of(value))})
