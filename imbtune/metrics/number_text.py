"""Numbers as people read them: in tables, lines and reports, not in CSV, JSON and Parquet."""

from __future__ import annotations

MINUS = "−"  # as long as a plus, and unlike a hyphen no place to break a line


def as_text(value: float | None, spec: str = ".4f") -> str:
    """A number, with a true minus sign where it is negative; a dash for None.

    Args:
        spec: as Python's `format` takes it. What is rounded to zero has no minus sign.
    """
    if value is None:
        return "–"
    text = format(value, spec)
    if text.startswith("-") and not text.strip("-0."):
        text = format(0.0, spec)
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
