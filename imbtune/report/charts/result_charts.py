"""What comparisons and calibrations have found: leads, groups of classes, rungs that predict."""

from __future__ import annotations

import altair as alt
import pandas as pd

from imbtune.report.charts.dot_plots import height_of, in_lines, row_names
from imbtune.report.charts.theme import (
    FAINT,
    HEIGHT,
    MUTED,
    WIDTH,
    Chart,
    drawn,
    kind_colour,
    kind_shape,
    study_colour,
    study_shape,
    styled,
)
from imbtune.study.results.calibration_result import USABLE

OTHERS = 2  # place of the first colour that stands for neither the winner nor a preset


def lead_chart(frame: pd.DataFrame, title: str, width: int = WIDTH) -> Chart:
    """A row per configuration: its lead over the reference, and the 95 % interval."""
    order = list(dict.fromkeys(frame["label"]))
    y = alt.Y("label:N", sort=order, axis=None)
    low, high = min(0.0, frame["low"].min()), max(0.0, frame["high"].max())
    pad = 0.06 * (high - low) or 0.01
    scale = alt.Scale(domain=[low - pad, high + pad], nice=False)
    x = alt.X("lead:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6, titleLimit=width))
    words, lines = in_lines(frame["label"], width)
    tips = [
        alt.Tooltip("label:N", title="configuration"),
        alt.Tooltip("lead:Q", format="+.3f"),
        alt.Tooltip("low:Q", format="+.3f"),
        alt.Tooltip("high:Q", format="+.3f"),
        alt.Tooltip("p:Q", format=".2g"),
    ]
    base = drawn(frame.assign(words=words))
    zero = (
        alt.Chart(alt.InlineData(values=[{"at": 0}]))
        .mark_rule(color=MUTED, strokeDash=[4, 3])
        .encode(x=alt.X("at:Q", scale=scale))
    )
    interval = base.mark_rule(strokeWidth=3, opacity=0.5).encode(
        y=y, x=alt.X("low:Q", title=title, scale=scale), x2="high:Q", color=kind_colour()
    )
    points = base.mark_point(size=110, filled=True, opacity=1).encode(
        y=y, x=x, color=kind_colour(), shape=kind_shape(), tooltip=tips
    )
    layers = zero + interval + points + row_names(base, lines, y)
    return styled(layers.properties(width=width, height=height_of(len(order), lines)))


def group_chart(frame: pd.DataFrame, width: int = WIDTH) -> Chart:
    """A row per configuration: the mean recall of the classes of each group, ± the deviation."""
    order = list(dict.fromkeys(frame["label"]))
    groups = list(dict.fromkeys(frame["group"]))
    y = alt.Y("label:N", sort=order, axis=None)
    title = "mean recall of the classes"
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("mean:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    words, lines = in_lines(frame["label"], width)
    tips = [
        alt.Tooltip("label:N", title="configuration"),
        alt.Tooltip("group:N", title="classes"),
        alt.Tooltip("mean:Q", title="mean recall", format=".3f"),
    ]
    colour = study_colour(groups, frame["group"], "group", OTHERS)
    shape = study_shape(groups, frame["group"], "group", OTHERS)
    base = drawn(frame.assign(words=words))
    interval = base.mark_rule(strokeWidth=5, opacity=0.3).encode(
        y=y,
        x=alt.X("low:Q", title=title, scale=scale),
        x2="high:Q",
        color=colour,
    )
    points = base.mark_point(size=80, filled=True, opacity=1).encode(
        y=y,
        x=x,
        color=colour,
        shape=shape,
        tooltip=tips,
    )
    layers = interval + points + row_names(base, lines, y)
    return styled(layers.properties(width=width, height=height_of(len(order), lines)))


def rho_chart(
    frame: pd.DataFrame, floor: float, against: str, title: str, width: int = WIDTH
) -> Chart:
    """How well each rung predicts the finished model: ρ with its 90 % interval.

    Args:
        floor: ρ between two full runs; NaN where it is not defined.
        against: the column of the horizontal axis, `budget` or `cost`.
        title: of that axis.
    """
    kinds = sorted(frame["kind"].unique())
    spread = 0.035 * (len(kinds) - 1) / 2
    shifts = {kind: 1 - spread + 0.035 * i for i, kind in enumerate(kinds)}
    by_budget = against == "budget"  # where the kinds have the same rungs, side by side
    at = frame[against] * frame["kind"].map(shifts) if by_budget else frame[against]
    rows = frame.assign(at=at, epochs=frame["budget"].astype(str) + " epochs")
    ticks = sorted(frame["budget"].unique().tolist()) if by_budget else None
    axis = alt.Axis(values=ticks) if ticks else alt.Axis(tickCount=6, format=".2~f")
    scale = alt.Scale(nice=False, zero=False, padding=40)
    if by_budget:
        ends = [frame["budget"].min() / 1.5, frame["budget"].max() * 1.5]
        scale = alt.Scale(type="log", nice=False, domain=ends)
    x = alt.X("at:Q", title=title, scale=scale, axis=axis)
    least = min(0.0, float(frame["low"].min())) if frame["low"].notna().any() else -1.0
    words = "Spearman's ρ with the full run of the other seed"
    y_scale = alt.Scale(domain=[max(-1.0, least - 0.05), 1.05], nice=False)
    y = alt.Y("rho:Q", title=words, scale=y_scale, axis=alt.Axis(tickCount=6))
    tips = [
        alt.Tooltip("kind:N", title="rungs"),
        alt.Tooltip("budget:Q", title="epochs"),
        alt.Tooltip("rho:Q", title="ρ", format=".2f"),
        alt.Tooltip("low:Q", format=".2f"),
        alt.Tooltip("high:Q", format=".2f"),
        alt.Tooltip("cost:Q", title="cost, full runs", format=".2f"),
    ]
    colour = study_colour(kinds, frame["kind"], "kind", OTHERS)
    shape = study_shape(kinds, frame["kind"], "kind", OTHERS)
    base = drawn(rows).encode(x=x)
    interval = base.mark_rule(strokeWidth=2.5, opacity=0.45).encode(
        y=alt.Y("low:Q", title=words, scale=y_scale),
        y2="high:Q",
        color=colour,
    )
    lines = base.mark_line(strokeWidth=1.2, opacity=0.6).encode(y=y, color=colour, order="budget:Q")
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        y=y,
        color=colour,
        shape=shape,
        tooltip=tips,
    )
    layers = interval + lines + points
    if not by_budget:
        layers += base.mark_text(align="left", dx=9, dy=-7, fontSize=11, color=MUTED).encode(
            y=y, text="epochs:N"
        )
    if floor > 0:
        levels = [
            {"at": floor, "text": f"two full runs: {floor:.2f}"},
            {"at": USABLE * floor, "text": f"usable from {USABLE * floor:.2f}"},
        ]
        marked = alt.Chart(alt.InlineData(values=levels))
        level = alt.Y("at:Q", title=words, scale=y_scale)
        layers += marked.mark_rule(color=FAINT, strokeDash=[4, 3]).encode(y=level)
        layers += marked.mark_text(
            align="left", baseline="bottom", dy=-2, fontSize=11, color=MUTED
        ).encode(y=level, x=alt.value(2), text="text:N")
    return styled(layers.properties(width=width, height=HEIGHT))
