"""What happened in the search: scores, rungs, progress, curves, machines."""

from __future__ import annotations

import altair as alt
import pandas as pd

from imbtune.metrics.number_text import as_text
from imbtune.report.charts.knob_charts import (
    DRAWN_LAST,
    IS_PICKED,
    PICKED,
    leading_size,
    picked_opacity,
)
from imbtune.report.charts.mark_labels import labels, with_labels
from imbtune.report.charts.theme import (
    FAINT,
    HEIGHT,
    INK,
    KIND_SHAPES,
    KINDS,
    LEADING,
    MUTED,
    REST,
    STATES,
    WIDTH,
    WINNER,
    Chart,
    drawn,
    kind_colour,
    kind_shape,
    score_ends,
    score_scale,
    styled,
)
from imbtune.report.wording import counted

SHORT = 2  # minutes or hours; a shorter search is drawn in the smaller unit
STATE_SHAPES = ["circle", "triangle-down", "cross", "triangle-up"]


def score_chart(frame: pd.DataFrame, objective: str, width: int | str = WIDTH) -> Chart:
    """Every trial's score in the order of the trials; what a shape and a colour mean is in it.

    Trials without a score, which failed before the first rung, stand in a lane below the axis.
    """
    brush = alt.selection_interval(
        name="brush", encodings=["x"], mark=alt.BrushConfig(fill=WINNER, fillOpacity=0.08)
    )
    shapes = alt.Scale(domain=STATES, range=STATE_SHAPES)
    is_scored = frame["score"].notna()
    low, high = score_ends(frame["score"] if is_scored.any() else pd.Series([0.0, 1.0]), 0.1)
    lane = low - 0.07 * (high - low)  # below the axis
    bottom = low if is_scored.all() else lane - 0.05 * (high - low)
    scale = alt.Scale(domain=[bottom, high], nice=False, zero=False)
    below = alt.condition(f"datum.value < {low}", alt.value(0), alt.value(1))
    axis = alt.Axis(tickCount=6, labelOpacity=below, tickOpacity=below, gridOpacity=below)
    title = f"{objective} (highest rung)"
    base = (
        drawn(frame)
        .transform_calculate(at=f"isValid(datum.score) ? datum.score : {lane}", rank=DRAWN_LAST)
        .mark_point(filled=True, size=46, strokeWidth=0)
        .encode(
            x=alt.X(
                "trial:Q", title="trial", axis=alt.Axis(format="d", tickMinStep=1, tickCount=8)
            ),
            y=alt.Y("at:Q", title=title, scale=scale, axis=axis),
            color=alt.condition("datum.state == 'finished'", kind_colour(), alt.value(FAINT)),
            shape=alt.Shape(
                "state:N",
                scale=shapes,
                condition=[
                    {"test": f"datum.kind == '{kind}'", "value": shape}
                    for kind, shape in zip(KINDS[:2], KIND_SHAPES[:2], strict=True)
                ],
            ),
            opacity=picked_opacity(0.8),
            size=leading_size(46),
            order=alt.Order("rank:Q"),
            tooltip=[
                "trial:Q",
                "name:N",
                "state:N",
                alt.Tooltip("score:Q", format=".4f"),
                alt.Tooltip("budget:Q", title="epochs"),
                "error:N",
            ],
        )
        .add_params(PICKED, brush)
    )
    leading = frame.loc[frame["kind"].isin(KINDS[:2]) & is_scored, ["trial", "score", "kind"]]
    across = leading["trial"] / max(1, frame["trial"].max())
    down = (high - leading["score"]) / (high - bottom)
    points = list(zip(across, down, strict=True))
    named = with_labels(leading, points, list(leading["kind"]), HEIGHT)
    layers = (
        base
        if named.empty
        else base + labels(named, alt.X("trial:Q"), alt.Y("score:Q", title=title))
    )
    return styled(layers.properties(width=width, height=HEIGHT))


def rung_chart(
    frame: pd.DataFrame, column: str, budget: int, objective: str, rho: float | None = None
) -> Chart:
    """Each trial's score at one rung, the cut-off where it is recorded, and what became of it.

    Args:
        frame: a row per trial, as `trial_frame` gives it.
        column: the rung's column, such as `r0`.
        budget: its epochs.
        rho: Spearman's ρ of this rung with the full budget, by a calibration; None without.
    """
    here = frame[frame[column].notna()]
    fates = ["went on", "stopped here", "never-pruned sample"]
    fate = (
        f"datum.rescued === {budget} ? '{fates[2]}' : datum.budget > {budget} ? '{fates[0]}' : "
        f"'{fates[1]}'"
    )
    colour = alt.Color("fate:N", scale=alt.Scale(domain=fates, range=[REST, FAINT, INK]))
    shapes = alt.Scale(domain=fates, range=["circle", "triangle-down", "triangle-up"])
    x = alt.X("trial:Q", title="trial", axis=alt.Axis(format="d", tickMinStep=1, tickCount=6))
    scale = score_scale(here[[column, "cutoff"]])
    y = alt.Y(f"{column}:Q", title=objective, scale=scale, axis=alt.Axis(tickCount=5))
    base = drawn(frame).transform_filter(f"isValid(datum.{column})").transform_calculate(fate=fate)
    points = (
        base.mark_point(filled=True, size=42, strokeWidth=0)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("fate:N", scale=shapes),
            opacity=picked_opacity(0.85),
            tooltip=[
                "trial:Q",
                "name:N",
                "fate:N",
                alt.Tooltip(f"{column}:Q", title="score here", format=".4f"),
                alt.Tooltip("cutoff:Q", title="cut-off", format=".4f"),
                alt.Tooltip("full:Q", title="score in the end", format=".4f"),
            ],
        )
        .add_params(PICKED)
    )
    layers: list[alt.Chart] = [points]
    if frame["cutoff"].notna().any():
        lines = base.transform_filter(f"isValid(datum.cutoff) && datum.fate != '{fates[0]}'")
        layers.append(
            lines.mark_line(
                color=INK, strokeWidth=1.2, strokeDash=[4, 3], interpolate="step-after"
            ).encode(x=x, y=alt.Y("cutoff:Q", title=objective))
        )
    known = (
        f"; ρ with the full budget {as_text(rho, '.2f')} (calibration)" if rho is not None else ""
    )
    count = int(((here["budget"] > budget) & (here["rescued"] != budget)).sum())
    title = alt.TitleParams(
        f"After {counted(int(budget), 'epoch')}",
        subtitle=f"{count} of {counted(len(here), 'trial')} went on{known}",
    )
    return styled(alt.layer(*layers).properties(width=WIDTH, height=220, title=title))


def progress_chart(frame: pd.DataFrame, objective: str, width: int | str = WIDTH) -> Chart:
    """The best score of one run so far against the image passes of all trials, and every finish."""
    x = alt.X(
        "images:Q",
        title="image passes of all trials",
        scale=alt.Scale(nice=False, padding=8),
        axis=alt.Axis(tickCount=6, format="~s"),
    )
    scale = score_scale(frame["score"])
    y = alt.Y("score:Q", title=objective, scale=scale, axis=alt.Axis(tickCount=5))
    base = drawn(frame).encode(x=x)
    points = (
        base.mark_point(filled=True, size=40, strokeWidth=0)
        .transform_calculate(rank=DRAWN_LAST)
        .encode(
            y=y,
            color=kind_colour(),
            shape=kind_shape(),
            opacity=picked_opacity(0.75),
            size=leading_size(40),
            order=alt.Order("rank:Q"),
            tooltip=[
                "trial:Q",
                "name:N",
                alt.Tooltip("score:Q", format=".4f"),
                alt.Tooltip("images:Q", title="image passes", format=".3s"),
            ],
        )
        .add_params(PICKED)
    )
    best = base.mark_line(interpolate="step-after", color=INK, strokeWidth=1.4).encode(
        y=alt.Y("best:Q", title=objective)
    )
    return styled((best + points).properties(width=width, height=HEIGHT))


def curve_chart(
    frame: pd.DataFrame, bands: pd.DataFrame, objective: str, width: int | str = WIDTH
) -> Chart:
    """Learning curves of the best trials and the presets, over a band of all trials."""
    x = alt.X(
        "epoch:Q",
        title="epoch",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(format="d", tickMinStep=1),
    )
    title = f"{objective} after the epoch"
    y = alt.Y("score:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    band = (
        drawn(bands)
        .mark_area(color=REST, opacity=0.18)
        .encode(x=x, y=alt.Y("q10:Q", title=title), y2="q90:Q")
    )
    middle = (
        drawn(bands)
        .mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1.2)
        .encode(x=x, y=alt.Y("q50:Q", title=title))
    )
    base = (
        drawn(frame)
        .encode(
            x=x,
            y=y,
            color=kind_colour(),
            detail="trial:N",
            tooltip=["trial:Q", "name:N", "epoch:Q", alt.Tooltip("score:Q", format=".4f")],
        )
        .add_params(PICKED)
    )
    others = (
        base.transform_filter(f"!({LEADING})")
        .mark_line(strokeWidth=0.8)
        .encode(opacity=alt.condition(IS_PICKED, alt.value(0.28), alt.value(0.03)))
    )
    leading = (
        base.transform_filter(LEADING)
        .mark_line(strokeWidth=2.4)
        .encode(
            opacity=alt.condition(IS_PICKED, alt.value(1), alt.value(0.1)),
            strokeDash=alt.condition(
                "datum.kind == 'winner'", alt.value([1, 0]), alt.value([6, 3])
            ),
        )
    )
    leads = frame["kind"].isin(KINDS[:2])
    layers = alt.layer(band, middle)
    layers = layers + others if not leads.all() else layers
    layers = layers + leading if leads.any() else layers
    return styled(layers.properties(width=width, height=HEIGHT + 40))


def timeline_chart(frame: pd.DataFrame, width: int | str = WIDTH) -> Chart:
    """A bar per run on its machine and GPU or CPU."""
    units = ((3600, "seconds"), (60, "minutes"), (1, "hours"))
    longest = frame["ended"].max()
    factor, unit = next((u for u in units[1:] if longest * u[0] >= SHORT), units[0])
    frame = frame.assign(started=factor * frame["started"], ended=factor * frame["ended"])
    kinds = [*STATES, "final"]
    colours = alt.Scale(domain=kinds, range=[REST, FAINT, INK, "#d0a215", "#009e73"])
    lanes = list(dict.fromkeys(frame["lane"]))
    bars = (
        drawn(frame)
        .mark_bar(height=alt.RelativeBandSize(0.75), cornerRadius=1)
        .encode(
            x=alt.X(
                "started:Q", title=f"{unit} since the first run began", axis=alt.Axis(tickCount=8)
            ),
            x2="ended:Q",
            y=alt.Y("lane:N", sort=lanes, title=None, axis=alt.Axis(labelLimit=180, ticks=False)),
            color=alt.Color("what:N", scale=colours),
            opacity=alt.condition(IS_PICKED, alt.value(1), alt.value(0.05)),
            tooltip=[
                "run:N",
                "what:N",
                "place:N",
                alt.Tooltip("started:Q", format=".3f"),
                alt.Tooltip("ended:Q", format=".3f"),
            ],
        )
        .add_params(PICKED)
    )
    return styled(bars.properties(width=width, height=max(60, min(600, 22 * len(lanes)))))
