"""JSON that every reader accepts: NaN and infinity, which it does not have, become null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def dumps(
    content: object, indent: int | None = None, default: Callable[[object], object] | None = None
) -> str:
    """The content as JSON; a float that is not finite becomes null.

    Args:
        indent: spaces for each level; None for one line.
        default: turns an object that JSON does not have into one that it has.
    """
    return json.dumps(null_for_nan(content), indent=indent, default=default, allow_nan=False)


def loads(content: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or has too many lists or objects in one another.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("too many lists or objects in one another") from None


def null_for_nan(content: object) -> object:
    """The content with None for each float that is not finite, at any depth."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: null_for_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [null_for_nan(value) for value in content]
    return content


def nan_for_null(values: Iterable[float | None]) -> list[float]:
    """The inverse of `null_for_nan` for a list of numbers, such as the recall of each class."""
    return [math.nan if value is None else value for value in values]
