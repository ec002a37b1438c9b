"""Dot plots of finals: a row per configuration with its name above, and a dot per seed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import inf
from typing import Any

import altair as alt
import pandas as pd

from imbtune.report.charts.theme import INK, PAPER, Chart

ROW, LINE_HEIGHT = 46, 14  # pixels of a row with one line of text, and of each further line
LETTER = 6.4  # pixels of a letter of a name, on average
LANES, LANE_HEIGHT = 4, 6  # places for equal scores, one below the other; pixels between two
GAP = 6.0  # pixels; dots that are closer cover each other


def lanes(frame: pd.DataFrame, gap: float) -> list[int]:
    """For each seed in a row of a dot plot, how far below the row's line it is drawn: 0, 1, …

    So seeds with equal scores do not cover each other.

    Args:
        frame: with `label`, the row, and `score`.
        gap: scores that are closer than this overlap.
    """
    both = list(zip(frame["label"], frame["score"].astype(float), strict=True))
    found, last = [0] * len(both), dict[tuple[str, int], float]()
    for i in sorted(range(len(both)), key=lambda i: both[i][1]):
        label, score = both[i]
        free = (n for n in range(LANES) if score - last.get((label, n), -inf) >= gap)
        found[i] = next(free, LANES - 1)
        last[label, found[i]] = score
    return found


def seed_dots(base: alt.Chart, used: Sequence[int], **encoding: Any) -> Chart:
    """A dot per seed of a dot plot, whose frame has the column `lane` (:func:`lanes`)."""
    dots = [
        base.transform_filter(f"datum.lane == {lane}")
        .mark_circle(size=34, opacity=1, stroke=PAPER, strokeWidth=0.8, yOffset=LANE_HEIGHT * lane)
        .encode(**encoding)
        for lane in sorted({*used})
    ]
    return alt.layer(*dots)


def in_lines(labels: pd.Series, width: int) -> tuple[list[str], int]:
    """The labels of rows in lines that fit a width, all in as many; and how many that are."""
    wrapped = [textwrap.wrap(label, max(20, int(width / LETTER))) for label in labels]
    most = max(map(len, wrapped), default=1)
    return ["\n".join([""] * (most - len(lines)) + lines) for lines in wrapped], most


def row_names(base: alt.Chart, lines: int, y: alt.Y) -> Chart:
    """The name of each row above it, from the columns `label` and `words` (:func:`in_lines`)."""
    names: Chart = (
        base.transform_aggregate(seeds="count()", groupby=["label", "words"])
        .mark_text(
            align="left",
            dy=-15 - LINE_HEIGHT * (lines - 1),
            lineHeight=LINE_HEIGHT,
            lineBreak="\n",
            fontSize=12,
            color=INK,
        )
        .encode(y=y, x=alt.value(0), text="words:N", detail="label:N")
    )
    return names


def height_of(rows: int, lines: int) -> int:
    """The height of a dot plot in pixels."""
    return (ROW + LINE_HEIGHT * (lines - 1)) * rows + 10
