"""Several studies in one figure: each has a colour and a shape."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from imbtune.report.charts.dot_plots import (
    GAP,
    height_of,
    in_lines,
    lanes,
    row_names,
    seed_dots,
)
from imbtune.report.charts.theme import (
    HEIGHT,
    WIDTH,
    Chart,
    drawn,
    score_ends,
    score_scale,
    study_colour,
    study_shape,
    styled,
)


def studies_finals_chart(
    frame: pd.DataFrame, studies: Sequence[str], objective: str, width: int = WIDTH
) -> Chart:
    """A row per study's winner and best preset: a dot per seed, the mean and its interval."""
    order = list(dict.fromkeys(frame["label"]))
    y = alt.Y("label:N", sort=order, axis=None)
    ends = score_ends(frame[["score", "low", "high"]])
    scale = alt.Scale(domain=ends, nice=False, zero=False)
    title = f"{objective} on the validation images"
    x = alt.X("score:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    colour = study_colour(studies, frame["study"])
    words, lines = in_lines(frame["label"], width)
    places = lanes(frame, GAP / width * (ends[1] - ends[0]))
    frame = frame.assign(lane=places, words=words)
    base = drawn(frame)
    tips = [
        "label:N",
        "seed:N",
        alt.Tooltip("score:Q", format=".4f"),
        alt.Tooltip("mean:Q", format=".4f"),
    ]
    interval = base.mark_rule(strokeWidth=6, opacity=0.28).encode(
        y=y,
        x=alt.X("min(low):Q", title=title, scale=scale),
        x2="max(high):Q",
        color=colour,
        detail="label:N",
    )
    seeds = seed_dots(base, places, y=y, x=x, color=colour, tooltip=tips)
    mean = base.mark_point(size=150, filled=True, opacity=0.45).encode(
        y=y,
        x=alt.X("mean(mean):Q", title=title, scale=scale),
        color=colour,
        shape=study_shape(studies, frame["study"]),
        detail="label:N",
    )
    names = row_names(base, lines, y)
    layers = interval + mean + seeds + names  # no mean covers a seed
    return styled(layers.properties(width=width, height=height_of(len(order), lines)))


def studies_progress_chart(
    frame: pd.DataFrame, studies: Sequence[str], objective: str, width: int = WIDTH
) -> Chart:
    """The best score of one run so far against the image passes, a line per study."""
    x = alt.X(
        "images:Q", title="image passes of all trials", axis=alt.Axis(tickCount=6, format="~s")
    )
    title = f"{objective} of one run"
    y = alt.Y("best:Q", title=title, scale=score_scale(frame["score"]))
    tips = ["study:N", "trial:Q", "name:N", alt.Tooltip("score:Q", format=".4f")]
    base = drawn(frame).encode(color=study_colour(studies, frame["study"]))
    points = base.mark_point(filled=True, size=34, opacity=0.5).encode(
        x=x,
        y=alt.Y("score:Q", title=title),
        shape=study_shape(studies, frame["study"]),
        tooltip=tips,
    )
    lines = base.mark_line(interpolate="step-after", strokeWidth=2).encode(x=x, y=y)
    return styled((points + lines).properties(width=width, height=HEIGHT))


def studies_recall_chart(frame: pd.DataFrame, studies: Sequence[str], width: int = WIDTH) -> Chart:
    """The recall of the winners' classes against the number of training images."""
    x = alt.X(
        "images:Q",
        title="training images of the class (logarithmic)",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(tickCount=6, format="~s"),
    )
    title = "recall on the validation images"
    y = alt.Y("recall:Q", title=title, scale=alt.Scale(domain=[0, 1]))
    base = drawn(frame[frame["recall"].notna()]).encode(
        x=x, color=study_colour(studies, frame["study"])
    )
    interval = base.mark_rule(opacity=0.3, strokeWidth=2).encode(
        y=alt.Y("low:Q", title=title), y2="high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=0.9).encode(
        y=y,
        shape=study_shape(studies, frame["study"]),
        tooltip=["study:N", "class:N", "model:N", alt.Tooltip("recall:Q", format=".3f")],
    )
    line = base.mark_line(strokeWidth=1, opacity=0.5).encode(y=y)
    return styled((interval + line + points).properties(width=width, height=HEIGHT))
