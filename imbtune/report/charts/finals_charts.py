"""The finals, and the recall of each class."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from imbtune.metrics.number_text import as_text
from imbtune.report.charts.dot_plots import (
    GAP,
    height_of,
    in_lines,
    lanes,
    row_names,
    seed_dots,
)
from imbtune.report.charts.theme import (
    BETTER,
    FAINT,
    HEAT,
    HEIGHT,
    INK,
    KIND_COLOURS,
    KIND_SHAPES,
    KINDS,
    MUTED,
    PAPER,
    WIDTH,
    WORSE,
    Chart,
    drawn,
    kind_colour,
    kind_shape,
    score_ends,
    styled,
)
from imbtune.report.study_data import records
from imbtune.report.wording import shorter

PERCENT = "%"
DIRECTIONS = ["better", "within the error", "worse"]  # the winner against the preset
LABEL = 15  # pixels between two labels


def finals_chart(frame: pd.DataFrame, title: str, width: int = WIDTH) -> Chart:
    """A row per configuration: a dot per seed, the mean, its interval.

    Where the frame has `search_score`, the score by which the search chose it is a hollow circle.

    Args:
        title: of the axis.
    """
    order = list(dict.fromkeys(frame["label"]))
    y = alt.Y("label:N", sort=order, axis=None)
    chosen_by = ["search_score"] if "search_score" in frame else []
    ends = score_ends(frame[["score", "low", "high", *chosen_by]])
    scale = alt.Scale(domain=ends, nice=False, zero=False)
    x = alt.X("score:Q", title=title, scale=scale, axis=alt.Axis(format=".3~f", tickCount=6))
    words, lines = in_lines(frame["label"], width)
    places = lanes(frame, GAP / width * (ends[1] - ends[0]))
    frame = frame.assign(lane=places, words=words)
    base = drawn(frame)
    tips = [
        alt.Tooltip("label:N", title="trial"),
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
        alt.Tooltip("seed:N", title="this seed"),
        alt.Tooltip("score:Q", title="score of this seed", format=".4f"),
        *(alt.Tooltip(f"{c}:Q", title="score in the search", format=".4f") for c in chosen_by),
    ]
    interval = base.mark_rule(strokeWidth=6, opacity=0.28).encode(
        y=y,
        x=alt.X("min(low):Q", title=title, scale=scale),
        x2="max(high):Q",
        color=kind_colour(),
        detail="label:N",
    )
    seeds = seed_dots(base, places, y=y, x=x, color=kind_colour(), tooltip=tips)
    mean = base.mark_point(size=150, filled=True, opacity=0.45).encode(
        y=y,
        x=alt.X("mean(mean):Q", title=title, scale=scale),
        color=kind_colour(),
        shape=kind_shape(),
        detail="label:N",
    )
    chosen = base.mark_point(size=70, filled=False, color=MUTED, strokeWidth=1.4).encode(
        y=y, x=alt.X("mean(search_score):Q", title=title, scale=scale), detail="label:N"
    )
    names = row_names(base, lines, y)
    under = interval + chosen if chosen_by else interval
    layers = under + mean + seeds + names  # no mean covers a seed
    return styled(layers.properties(width=width, height=height_of(len(order), lines)))


def recall_chart(frame: pd.DataFrame, width: int = WIDTH, height: int = HEIGHT) -> Chart:
    """Recall against the number of training images, winner and preset, with Wilson intervals."""
    shown = frame[frame["recall"].notna()]
    kinds = dict(zip(shown["model"], shown["kind"], strict=True))
    at = [KINDS.index(kind) for kind in kinds.values()]
    legend = alt.Legend(direction="vertical", labelLimit=width)
    colour = alt.Color(
        "model:N",
        legend=legend,
        scale=alt.Scale(domain=list(kinds), range=[KIND_COLOURS[i] for i in at]),
    )
    shape = alt.Shape(
        "model:N",
        legend=legend,
        scale=alt.Scale(domain=list(kinds), range=[KIND_SHAPES[i] for i in at]),
    )
    x = alt.X(
        "at:Q",
        title="training images of the class (logarithmic)",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(tickCount=6, format="~s"),
    )
    # the two models of a class side by side, not one on the other
    shift = dict(zip(("winner", "best preset"), (0.975, 1.025), strict=True))
    rows = shown.assign(at=shown["images"].clip(lower=0.5) * shown["kind"].map(shift))
    y = alt.Y(
        "recall:Q",
        title="recall on the validation images",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(tickCount=5),
    )
    tips = [
        alt.Tooltip("class:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("images:Q", title="training images", format=".0f"),
        alt.Tooltip("validation:Q", title="validation images"),
        alt.Tooltip("recall:Q", format=".3f"),
        alt.Tooltip("low:Q", format=".3f"),
        alt.Tooltip("high:Q", format=".3f"),
    ]
    base = drawn(rows).encode(x=x, color=colour)
    interval = base.mark_rule(opacity=0.45, strokeWidth=2).encode(
        y=alt.Y("low:Q", title="recall on the validation images"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=1.2, opacity=0.45).encode(y=y)
    points = base.mark_point(size=64, filled=True, opacity=1).encode(y=y, shape=shape, tooltip=tips)
    layers = (interval + line + points).properties(width=width, height=height)
    return styled(layers)


def slope_chart(frame: pd.DataFrame, width: int = 420, height: int = 360) -> Chart:
    """A line per class from the preset's recall to the winner's.

    Changes within the error are grey; the largest of the others are named.
    """
    colours = alt.Scale(domain=DIRECTIONS, range=[BETTER, FAINT, WORSE])
    rows = frame.assign(
        direction=[
            DIRECTIONS[1] if not differs else DIRECTIONS[0] if change > 0 else DIRECTIONS[2]
            for change, differs in zip(frame["change"], frame["differs"], strict=True)
        ]
    )
    low, high = rows["recall"].min(), rows["recall"].max()
    pad = 0.05 * (high - low) or 0.05
    domain = [max(0.0, low - pad), min(1.0, high + pad)]
    named = rows[(rows["side"] == 1) & rows["differs"]]
    named = named.assign(size=named["change"].abs()).sort_values("size", ascending=False)[:8]
    named = _apart(named, domain, LABEL / height)
    x = alt.X(
        "side:O",
        title=None,
        scale=alt.Scale(padding=0.15),
        axis=alt.Axis(
            labelExpr="datum.value == 0 ? 'best preset' : 'winner'",
            labelAngle=0,
            orient="top",
            domain=False,
            ticks=False,
            labelFontSize=13,
        ),
    )
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    y = alt.Y("recall:Q", title="recall", scale=scale, axis=alt.Axis(tickCount=6))
    legend = alt.Legend(title=None, symbolType="stroke", symbolStrokeWidth=2)
    colour = alt.Color("direction:N", scale=colours, legend=legend)
    tips = [
        "class:N",
        alt.Tooltip("images:Q", title="training images"),
        "model:N",
        alt.Tooltip("recall:Q", format=".3f"),
        alt.Tooltip("change:Q", format="+.3f"),
    ]
    few = len(rows) <= 60
    lines = (
        drawn(rows)
        .mark_line(
            point=alt.OverlayMarkDef(size=30, filled=True),
            strokeWidth=1.6,
            opacity=0.9 if few else 0.35,
        )
        .encode(
            x=x,
            y=y,
            color=colour,
            detail="class:N",
            tooltip=tips,
            strokeDash=alt.StrokeDash(
                "direction:N",
                legend=legend,
                scale=alt.Scale(domain=DIRECTIONS, range=[[1, 0], [1, 0], [4, 3]]),
            ),
        )
    )
    if named.empty:
        return styled(lines.properties(width=width, height=height))
    text = (
        drawn(named)
        .mark_text(align="left", dx=9, fontSize=11, color=INK, limit=150)
        .encode(x=x, y=alt.Y("at:Q", title="recall", scale=scale), text="words:N")
    )
    return styled((lines + text).properties(width=width, height=height))


def _apart(named: pd.DataFrame, domain: Sequence[float], gap: float) -> pd.DataFrame:
    """The labels with heights at which they do not cover one another, and stay in the chart.

    Args:
        domain: lowest and highest value of the axis.
        gap: between two labels, as a share of the axis.
    """
    low, high = domain
    step, heights = gap * (high - low), list[float]()
    ordered = records(named.sort_values("recall", ascending=False, kind="stable"))
    for row in ordered:  # from above, each as high as the one above it allows
        heights.append(min([row["recall"], *(at - step for at in heights[-1:])]))
    least = low
    for i in reversed(range(len(heights))):  # from below, back into the chart
        heights[i] = max(heights[i], least)
        least = heights[i] + step
    rows = [
        {**row, "at": at, "words": f"{_points(row['change'])} {row['class']}"}
        for row, at in zip(ordered, heights, strict=True)
    ]
    return pd.DataFrame(rows, columns=[*named.columns, "at", "words"])


def _points(change: float) -> str:
    return as_text(100 * change, "+.0f")


def margin_chart(frame: pd.DataFrame, width: int = WIDTH, height: int = HEIGHT) -> Chart:
    """The mean margin of each class on training and validation images, by its size."""
    shown = frame[frame["margin"].notna()]
    colour = alt.Color(
        "split:N", scale=alt.Scale(domain=["training", "validation"], range=[FAINT, INK])
    )
    base = drawn(shown).encode(
        x=alt.X(
            "images:Q",
            title="training images of the class (logarithmic)",
            scale=alt.Scale(type="log", nice=False, padding=14),
            axis=alt.Axis(tickCount=6, format="~s"),
        ),
        y=alt.Y(
            "margin:Q",
            title="mean margin (in probability)",
            scale=alt.Scale(domain=[min(0.0, shown["margin"].min() - 0.05), 1.03], nice=False),
        ),
        color=colour,
    )
    zero = alt.Chart().mark_rule(color=FAINT, strokeDash=[3, 3]).encode(y=alt.datum(0))
    points = base.mark_point(size=60, filled=True, opacity=1).encode(
        shape=alt.Shape(
            "split:N",
            scale=alt.Scale(domain=["training", "validation"], range=["circle", "triangle-up"]),
        ),
        tooltip=["class:N", "split:N", "images:Q", alt.Tooltip("margin:Q", format=".3f")],
    )
    gap = base.mark_line(color=FAINT, strokeWidth=1).encode(
        color=alt.value(FAINT), detail="class:N"
    )
    return styled((gap + zero + points).properties(width=width, height=height))


def confusion_chart(frame: pd.DataFrame, matrix: bool) -> Chart:
    """The confusion matrix ordered by class size; or the most confused pairs of many classes."""
    tips = [
        alt.Tooltip("class:N"),
        alt.Tooltip("predicted:N"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("count:Q"),
    ]
    heat = alt.Scale(range=HEAT, domainMin=0, interpolate="rgb")
    if not matrix:
        both = zip(frame["class"], frame["predicted"], strict=True)
        rows = frame.assign(pair=[f"{shorter(one)} → {shorter(other)}" for one, other in both])
        bars = (
            drawn(rows)
            .mark_bar(color=BETTER, height=alt.RelativeBandSize(0.7))
            .encode(
                y=alt.Y(
                    "pair:N", sort=list(rows["pair"]), title=None, axis=alt.Axis(labelLimit=280)
                ),
                x=alt.X(
                    "share:Q",
                    title="share of the class's images",
                    axis=alt.Axis(format=PERCENT),
                ),
                tooltip=tips,
            )
        )
        return styled(bars.properties(width=320, height=18 * len(rows)))
    order = list(dict.fromkeys(frame.sort_values("row")["class"]))
    columns = list(dict.fromkeys(frame.sort_values("column")["predicted"]))
    order += [name for name in columns if name not in order]
    cell = max(15, min(34, 420 // max(1, len(order))))
    angle = 0 if max(map(len, order)) <= 2 else -90
    x = alt.X(
        "predicted:N",
        sort=order,
        title="predicted",
        scale=alt.Scale(domain=order),
        axis=alt.Axis(orient="top", labelLimit=90, labelAngle=angle),
    )
    y = alt.Y(
        "class:N",
        sort=order,
        title="class, largest first",
        scale=alt.Scale(domain=order),
        axis=alt.Axis(labelLimit=120),
    )
    base = drawn(frame).encode(x=x, y=y, tooltip=tips)
    wrong = (
        base.mark_rect(stroke=PAPER, strokeWidth=1)
        .encode(
            color=alt.Color(
                "wrong:Q",
                scale=heat,
                legend=alt.Legend(title="predicted wrongly", format=PERCENT, gradientLength=120),
            )
        )
        .transform_filter("datum.wrong != null")
    )
    right = (
        base.mark_text(fontSize=10, color=MUTED)
        .encode(text=alt.Text("share:Q", format=".0%"))
        .transform_filter("datum.wrong == null")
    )
    layers = (wrong + right) if len(order) <= 14 else wrong
    return styled(layers.properties(width=cell * len(order), height=cell * len(order)))
