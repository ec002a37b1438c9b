"""Labels of single marks, placed so that they cover neither one another nor a mark."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from imbtune.report.charts.theme import INK, drawn

NARROWEST = 320  # pixels of a chart on a phone: labels that are apart there are apart everywhere
LETTER, LINE = 7.0, 14  # pixels of a letter and of a line
MARK = 7  # half of a large mark

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def offsets(points: Sequence[Point], words: Sequence[str], height: float) -> list[Point | None]:
    """How far from its mark each label is written, in pixels; None where there is no room.

    A label is above its mark, or else below it, to its right or its left, in the order of the
    marks.

    Args:
        points: the marks as shares of the chart's width and height, from the upper left.
        words: the label of each; a mark without one is only not to be covered.
        height: of the chart, in pixels.
    """
    at = [(x * NARROWEST, y * height) for x, y in points]
    taken = [_box(x, y, 2 * MARK, 2 * MARK) for x, y in at]
    found: list[Point | None] = []
    for i, (x, y) in enumerate(at):
        across = LETTER * len(words[i])
        beside = across / 2 + MARK + 2
        free = None
        for dx, dy in ((0.0, -15.0), (0.0, 15.0), (beside, 0.0), (-beside, 0.0)):
            box = _box(x + dx, y + dy, across, LINE)
            is_inside = box[0] >= 0 and box[2] <= NARROWEST and box[1] >= 0
            others = (*taken[:i], *taken[i + 1 :])
            if words[i] and is_inside and not any(_overlap(box, other) for other in others):
                free = (dx, dy)
                taken.append(box)
                break
        found.append(free)
    return found


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def with_labels(
    frame: pd.DataFrame, points: Sequence[Point], words: Sequence[str], height: float
) -> pd.DataFrame:
    """The rows whose labels have room, with `words`, and `dx` and `dy` as :func:`offsets` says."""
    found = list(zip(words, offsets(points, words, height), strict=True))
    kept = [(word, *at) for word, at in found if at is not None]
    rows = frame[[at is not None for _, at in found]].reset_index(drop=True)
    rows.attrs = {}  # it is no table of a page
    return rows.join(pd.DataFrame(kept, columns=["words", "dx", "dy"]))


def labels(frame: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.Chart:
    """The labels of the rows of :func:`with_labels`."""
    text: alt.Chart = (
        drawn(frame)
        .mark_text(
            dx=alt.ExprRef("datum.dx"),
            dy=alt.ExprRef("datum.dy"),
            fontSize=12,
            color=INK,
            align="center",
            baseline="middle",
        )
        .encode(x=x, y=y, text="words:N")
    )
    return text
