"""Which knobs mattered, and where the good values are.

Charts of single trials have a parameter `picked`: which trials are selected, as an object with a
key for each of them, or with the key `all`. A page sets it; in Python, all are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import altair as alt
import pandas as pd

from imbtune.report.charts.theme import (
    INK,
    LEADING,
    MUTED,
    REST,
    WIDTH,
    WINNER,
    Chart,
    drawn,
    kind_colour,
    kind_shape,
    score_scale,
    styled,
)
from imbtune.report.study_data import LINEAR, SearchedKnob

PICKED = alt.param(name="picked", value={"all": True})
IS_PICKED = "picked.all || picked[datum.trial]"
PANEL = 240  # width of a panel
AXIS, LETTERS = 68, 11  # pixels between two axes of the lines; letters that fit between them


def picked_opacity(usual: float = 0.6) -> alt.Opacity:
    """Trials that are not selected are nearly transparent; the winner is never covered."""
    faded = alt.when(f"!({IS_PICKED})").then(alt.value(0.05))
    return faded.when(LEADING).then(alt.value(1)).otherwise(alt.value(usual))  # type: ignore[return-value]


def leading_size(usual: int = 36) -> alt.Size:
    """The winner and the best preset are drawn larger."""
    return alt.when(LEADING).then(alt.value(3 * usual)).otherwise(alt.value(usual))  # type: ignore[return-value]


def importance_chart(frame: pd.DataFrame) -> Chart:
    """A bar per knob with its interval; the label says in how many finished trials it acts."""
    rows = frame.assign(label=[f"{r.knob}  ({r.n} of {r.of})" for r in frame.itertuples()])
    y = alt.Y(
        "label:N",
        sort=[str(label) for label in rows["label"]],
        title=None,
        axis=alt.Axis(labelLimit=260),
    )
    x = alt.X(
        "value:Q",
        title="importance (sums to 1)",
        axis=alt.Axis(format=".0%"),
    )
    tips = [
        "knob:N",
        alt.Tooltip("value:Q", format=".3f"),
        alt.Tooltip("low:Q", format=".3f"),
        alt.Tooltip("high:Q", format=".3f"),
        "n:Q",
    ]
    base = drawn(rows).encode(y=y)
    bars = base.mark_bar(color=REST, opacity=0.55, height=alt.RelativeBandSize(0.6)).encode(
        x=x, tooltip=tips
    )
    rule = base.mark_rule(color=MUTED, strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q")
    return styled((bars + rule).properties(width=360, height=max(60, 22 * len(rows))))


def part_chart(frame: pd.DataFrame, values: pd.DataFrame, objective: str) -> Chart:
    """A strip per choice of one knob: its finished trials, their median, and how many they are.

    Args:
        frame: a row per trial, as `trial_frame` gives it.
        values: the rows of one knob of `part_frame`.
    """
    column, name = values["column"].iloc[0], values["knob"].iloc[0]
    labels = {str(row.value): f"{row.value}  ({row.n})" for row in values.itertuples()}
    y = alt.Y(
        f"{column}:N",
        sort=list(labels),
        title=None,
        axis=alt.Axis(
            labelExpr=f"({json.dumps(labels, allow_nan=False)})[datum.value]",
            labelLimit=150,
            ticks=False,
            domain=False,
        ),
    )
    x = alt.X(
        "full:Q", title=objective, scale=score_scale(frame["full"]), axis=alt.Axis(tickCount=4)
    )
    dots = _finished_points(frame, column).encode(
        x=x, y=y, opacity=picked_opacity(), tooltip=_trial_tips("full")
    )
    middle = (
        drawn(values.rename(columns={"value": column})[[column, "median"]])
        .mark_tick(thickness=2, size=16, color=MUTED)
        .encode(y=y, x=alt.X("median:Q", title=objective))
    )
    height = max(40, 24 * len(labels))
    return styled(alt.layer(dots, middle).properties(width=PANEL, height=height, title=name))


def _finished_points(frame: pd.DataFrame, column: str) -> alt.Chart:
    """A point for each finished trial in which a knob acts, with the leading trials on top.

    Args:
        column: of the knob's values in the frame.
    """
    points: alt.Chart = (
        drawn(frame)
        .transform_filter(f"isValid(datum.full) && isValid(datum.{column})")
        .transform_calculate(rank=DRAWN_LAST)
        .mark_point(filled=True, size=36, strokeWidth=0)
        .encode(
            color=kind_colour(),
            shape=kind_shape(),
            size=leading_size(),
            order=alt.Order("rank:Q"),
        )
        .add_params(PICKED)
    )
    return points


DRAWN_LAST = "datum.kind == 'winner' ? 2 : datum.kind == 'best preset' ? 1 : 0"


def strip_chart(
    frame: pd.DataFrame,
    knob: SearchedKnob,
    objective: str,
    curve: pd.DataFrame | None = None,
    *,
    brushed: bool = False,
) -> Chart:
    """The score against one knob over the finished trials in which it acts.

    Args:
        frame: a row per trial, as `trial_frame` gives it.
        curve: of this knob, as `dependence_frame` gives it; None without.
        brushed: whether trials can be selected with the mouse.
    """
    finished = frame["full"].notna()
    acts = finished & frame[knob.column].notna()
    linear = knob.scale == LINEAR
    kind = {"type": "linear", "zero": False} if linear else {"type": "log"}
    scale = alt.Scale(**kind, nice=False, padding=8)
    values = frame.loc[acts, knob.column]
    digits = 2 if linear or values.max() > 2 * values.min() else 3  # as tell two ticks apart
    ticks = alt.Axis(
        tickCount=4,
        format=f".{digits}~g",
        labelOverlap=True,
        labelSeparation=10,
        labelFlush=12,  # pixels; else a label at the end of the axis is cut
    )
    x = alt.X(f"{knob.column}:Q", title=knob.title, scale=scale, axis=ticks)
    y = alt.Y(
        "full:Q", title=objective, scale=score_scale(frame["full"]), axis=alt.Axis(tickCount=4)
    )
    brush = alt.selection_interval(
        name="brush", mark=alt.BrushConfig(fill=WINNER, fillOpacity=0.08)
    )
    value = alt.Tooltip(f"{knob.column}:Q", title=knob.title, format=".4g")
    points = _finished_points(frame, knob.column).encode(
        x=x, y=y, opacity=picked_opacity(0.6), tooltip=[*_trial_tips("full"), value]
    )
    if brushed:
        points = points.add_params(brush)
    layers: list[alt.Chart] = [points]
    if curve is not None and len(curve):
        lines = drawn(curve)
        band = lines.mark_area(color=REST, opacity=0.22).encode(
            x=alt.X("x:Q", title=knob.title), y=alt.Y("low:Q", title=objective), y2="high:Q"
        )
        middle = lines.mark_line(color=MUTED, strokeWidth=1.6).encode(
            x=alt.X("x:Q", title=knob.title), y=alt.Y("mean:Q", title=objective)
        )
        layers = [band, middle, points]
    title = alt.TitleParams(
        knob.name, subtitle=f"acts in {int(acts.sum())} of {int(finished.sum())}"
    )
    return styled(alt.layer(*layers).properties(width=PANEL, height=150, title=title))


def parallel_chart(frame: pd.DataFrame) -> Chart:
    """A line per trial over the knobs; a lane below the axes for knobs that do not act."""
    axes = list(dict.fromkeys(frame.sort_values("order")["axis"]))
    x = alt.X(
        "axis:N",
        sort=axes,
        title=None,
        scale=alt.Scale(padding=0.4),
        axis=alt.Axis(labelAngle=-35, labelLimit=170, grid=True, ticks=False, domain=False),
    )
    lane = "datum.value < -0.1 ? 'does not act' : datum.value == 0 ? 'low' : 'high'"
    y = alt.Y(
        "position:Q",
        title=None,
        scale=alt.Scale(domain=[-0.2, 1.02]),
        axis=alt.Axis(values=[-0.16, 0, 1], labelExpr=lane, grid=False, domain=False, ticks=False),
    )
    base = drawn(frame).encode(x=x, y=y, detail="trial:N", color=kind_colour())
    base = base.add_params(PICKED)
    others = (
        base.transform_filter(f"!({LEADING})")
        .mark_line(strokeWidth=1)
        .encode(opacity=alt.condition(IS_PICKED, alt.value(0.3), alt.value(0.03)))
    )
    leading = (
        base.transform_filter(LEADING)
        .mark_line(strokeWidth=3)
        .encode(opacity=alt.condition(IS_PICKED, alt.value(1), alt.value(0.1)))
    )
    points = base.mark_point(filled=True, strokeWidth=0).encode(
        shape=kind_shape(),
        opacity=picked_opacity(0.5),
        size=leading_size(18),
        tooltip=[
            alt.Tooltip("trial:Q"),
            "name:N",
            alt.Tooltip("axis:N", title="knob"),
            "value:N",
            alt.Tooltip("score:Q", format=".4f"),
        ],
    )
    named = frame[frame["choice"]].drop_duplicates(["axis", "value"])
    named = named.assign(words=[_two_lines(str(value)) for value in named["value"]])
    text = drawn(named).mark_text(
        align="left",
        baseline="bottom",
        dx=6,
        dy=-12,
        fontSize=10,
        lineHeight=10,
        lineBreak="\n",
        color=INK,
        limit=AXIS - 4,
    )
    labels = text.encode(x=x, y=y, text="words:N")
    width = max(WIDTH, AXIS * len(axes))
    layers = others + leading + points + labels
    return styled(layers.properties(width=width, height=300))


def _two_lines(words: str) -> str:
    """A choice in two lines: a long one broken after "_" or "+", a short one in the lower line."""
    lines = [""]
    for part in re.findall(r"[^_+]*[_+]?", words):
        if lines[-1] and len(lines) == 1 and len(lines[-1] + part) > LETTERS:
            lines.append("")
        lines[-1] += part
    return "\n".join([""] * (2 - len(lines)) + lines)


def wrapped(
    panels: Sequence[Chart], y: Literal["independent", "shared"] = "independent", columns: int = 3
) -> Chart:
    """Panels in rows, as one chart.

    Args:
        y: whether the panels have one vertical axis: shared or independent.
    """
    plain = [panel.copy(deep=True) for panel in panels]
    for panel in plain:
        panel.config = alt.Undefined
    return styled(alt.concat(*plain, columns=columns).resolve_scale(x="independent", y=y))


def _trial_tips(score: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("trial:Q"),
        alt.Tooltip("name:N"),
        alt.Tooltip(f"{score}:Q", title="score", format=".4f"),
    ]
