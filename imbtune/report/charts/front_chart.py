"""Two objectives against each other, with the Pareto front."""

from __future__ import annotations

import altair as alt
import pandas as pd

from imbtune.report.charts.knob_charts import IS_PICKED, PICKED, picked_opacity
from imbtune.report.charts.mark_labels import labels, with_labels
from imbtune.report.charts.theme import (
    FAINT,
    MUTED,
    WIDTH,
    Chart,
    drawn,
    kind_colour,
    kind_shape,
    score_ends,
    styled,
)

HEIGHT = 340


def front_chart(
    frame: pd.DataFrame, first: tuple[int, str], second: tuple[int, str], width: int | str = WIDTH
) -> Chart:
    """A point per finished trial; the front is a line, and its trials are labelled.

    Finalists are drawn at their means over the fresh seeds; a grey line leads there from their
    scores of one run.

    Args:
        frame: of :func:`imbtune.report.frames.front_frame.front_frame`.
        first: number and name of the objective on the horizontal axis.
        second: the same of the vertical axis.
    """
    (i, x_name), (j, y_name) = first, second
    confirmed = bool(frame["m0"].notna().any())
    at = {"x": f"m{i}", "y": f"m{j}"} if confirmed else {"x": f"s{i}", "y": f"s{j}"}
    axis = alt.Axis(format=".3~f", tickCount=6)
    ends = [score_ends(frame[[f"s{n}", f"m{n}"]]) for n in (i, j)]
    x_scale, y_scale = (alt.Scale(domain=each, nice=False, zero=False) for each in ends)

    def encoded(x: str, y: str) -> tuple[alt.X, alt.Y]:
        return (
            alt.X(f"{x}:Q", title=x_name, scale=x_scale, axis=axis),
            alt.Y(f"{y}:Q", title=y_name, scale=y_scale, axis=axis),
        )

    tips = [
        alt.Tooltip("name:N", title="trial"),
        alt.Tooltip(f"s{i}:Q", title=f"{x_name}, one run", format=".4f"),
        alt.Tooltip(f"s{j}:Q", title=f"{y_name}, one run", format=".4f"),
        alt.Tooltip(f"m{i}:Q", title=f"{x_name}, mean", format=".4f"),
        alt.Tooltip(f"m{j}:Q", title=f"{y_name}, mean", format=".4f"),
    ]

    def shown_at(usual: float, else_: float = 0.05) -> alt.Opacity:
        return alt.condition(IS_PICKED, alt.value(usual), alt.value(else_))  # type: ignore[return-value]

    x, y = encoded(f"s{i}", f"s{j}")
    runs = (
        drawn(frame)
        .mark_point(filled=True, size=34, color=FAINT)
        .encode(x=x, y=y, opacity=shown_at(0.45), tooltip=tips)
        .add_params(PICKED)
    )
    layers = [runs]
    if confirmed:
        moved = drawn(frame[frame["m0"].notna()]).mark_rule(color=FAINT, strokeWidth=1)
        layers.append(moved.encode(x=x, y=y, x2=f"m{i}:Q", y2=f"m{j}:Q", opacity=shown_at(1)))
    x, y = encoded(at["x"], at["y"])
    front = frame[frame["front"]]
    line = drawn(front).mark_line(
        color=MUTED, strokeWidth=1.4, strokeDash=[5, 4], interpolate="linear"
    )
    layers.append(line.encode(x=x, y=y, order=alt.Order(f"{at['x']}:Q")))
    shown = frame[frame["m0"].notna()] if confirmed else front
    points = drawn(shown).mark_point(filled=True, size=110)
    marks = {"color": kind_colour(), "shape": kind_shape(), "opacity": picked_opacity(0.9)}
    layers.append(points.encode(x=x, y=y, tooltip=tips, **marks))
    (left, right), (bottom, top) = ends
    across = (shown[at["x"]] - left) / (right - left)
    down = (top - shown[at["y"]]) / (top - bottom)
    words = [str(row.trial) if row.front else "" for row in shown.itertuples()]
    named = with_labels(shown, list(zip(across, down, strict=True)), words, HEIGHT)
    if len(named):
        layers.append(labels(named, x, y).encode(opacity=shown_at(1, 0.25)))
    return styled(alt.layer(*layers).properties(width=width, height=HEIGHT))
