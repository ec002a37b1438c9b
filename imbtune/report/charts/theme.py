"""Colours, shapes and fonts of all figures.

Each role has a colour of its own, so that a page can replace the light colours by the dark ones, or
by variables of its style sheet, wherever they occur in a chart. Orange and blue are told apart with
every kind of colour blindness, and a shape always repeats what a colour says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import altair as alt
import pandas as pd

from imbtune.report.study_data import without_nulls

Chart = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.VConcatChart | alt.FacetChart

INK, MUTED, FAINT, LINE, PAPER = "#1c2128", "#5b6470", "#a3abb6", "#e3e7ec", "#fdfdfe"
WINNER, PRESET, REST = "#c4510a", "#1f6fb4", "#7c8591"
BETTER, WORSE = "#c4510b", "#1f6fb5"  # as winner and preset, one bit apart
DARK = {  # what each light colour is on a dark page
    INK: "#e8ebef",
    MUTED: "#a4adb9",
    FAINT: "#6c7683",
    LINE: "#2c333c",
    PAPER: "#14181d",
    WINNER: "#ff9552",
    PRESET: "#68b3f3",
    REST: "#8f99a6",
    BETTER: "#ff9553",
    WORSE: "#68b3f4",
}
HEAT = [LINE, WINNER]
LEADING = "datum.kind == 'winner' || datum.kind == 'best preset'"
KINDS = ["winner", "best preset", "preset", "trial"]
KIND_COLOURS, KIND_SHAPES = [WINNER, PRESET, REST, REST], ["diamond", "square", "square", "circle"]
STATES = ["finished", "stopped", "failed", "interrupted"]
# Okabe and Ito's palette, for studies side by side
STUDIES = ["#c4510a", "#1f6fb4", "#009e73", "#cc79a7", "#b8860b", "#56a5d9", "#8a6d3b", "#7c8591"]
STUDY_SHAPES = ["diamond", "square", "circle", "triangle-up", "cross", "triangle-down", "triangle"]
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
WIDTH, HEIGHT = 560, 260


def drawn(frame: pd.DataFrame) -> alt.Chart:
    """A chart of a frame, with its rows inside, however many they are.

    A frame whose `attrs` have a `name` is a table of a page, which the chart names instead.
    """
    if name := frame.attrs.get("name"):
        return alt.Chart(alt.NamedData(str(name)))
    rows = [
        {key: value.item() if hasattr(value, "item") else value for key, value in row.items()}
        for row in without_nulls(frame)
    ]
    return alt.Chart(alt.InlineData(values=rows))


def styled(chart: Chart) -> Chart:
    """The chart with the report's fonts, colours and lines."""
    plain = {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "gridColor": LINE,
        "labelFont": FONT,
        "titleFont": FONT,
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titlePadding": 8,
        "tickSize": 4,
    }
    legend = {key: value for key, value in plain.items() if key.startswith(("label", "title"))}
    heading = {"font": FONT, "color": INK, "fontSize": 13, "fontWeight": 600, "anchor": "start"}
    found: Chart = chart.configure(
        background=PAPER,
        font=FONT,
        axis=plain,
        axisX={"grid": False},
        axisQuantitative={"labelOverlap": "greedy", "labelSeparation": 6},
        legend={
            **legend,
            "symbolSize": 80,
            "symbolOpacity": 1,
            "title": None,
            "orient": "top",
            "offset": 4,
        },
        title={**heading, "subtitleColor": MUTED, "subtitleFont": FONT, "subtitleFontSize": 12},
        header={"labelFont": FONT, "labelColor": INK, "titleFont": FONT},
        view={"stroke": None},
        mark={"tooltip": True},
        text={"font": FONT, "color": INK},
    )
    return found


def score_ends(scores: pd.DataFrame | pd.Series, pad: float = 0.06) -> tuple[float, float]:
    """The ends of an axis of scores, with room beyond the lowest and the highest one.

    There is no room where no score can be: below 0 and above 1 for shares, above 0 for the
    negatives of losses.

    Args:
        scores: those that are drawn, with the ends of their intervals; some may be null.
        pad: the room, as a share of their range.
    """
    values = pd.DataFrame(scores).astype(float)
    low, high = float(values.min().min()), float(values.max().max())
    room = pad * (high - low) or 0.01
    most = 0.0 if low < 0 and high <= 0 else 1.0 if high <= 1 else inf
    return low - room if low < 0 else max(0.0, low - room), min(most, high + room)


def score_scale(scores: pd.DataFrame | pd.Series) -> alt.Scale:
    """The scale of an axis of scores, with the ends of :func:`score_ends`."""
    return alt.Scale(domain=score_ends(scores), nice=False, zero=False)


def kind_colour() -> alt.Color:
    """The colour that says which trials are the winner and the best preset."""
    scale = alt.Scale(domain=KINDS, range=KIND_COLOURS)
    return alt.Color("kind:N", scale=scale, legend=None)


def kind_shape() -> alt.Shape:
    """The shape that repeats :func:`kind_colour`."""
    return alt.Shape("kind:N", scale=alt.Scale(domain=KINDS, range=KIND_SHAPES), legend=None)


def study_colour(
    studies: Sequence[str], shown: pd.Series, column: str = "study", first: int = 0
) -> alt.Color:
    """A colour for each study, or for each value of another column.

    Args:
        studies: all that have a colour.
        shown: the studies of a chart's rows, which its legend names.
        first: place of the first colour; from 2 on they are none of the winner or a preset.
    """
    colours = [STUDIES[(first + i) % len(STUDIES)] for i in range(len(studies))]
    scale = alt.Scale(domain=list(studies), range=colours)
    return alt.Color(f"{column}:N", scale=scale, legend=_naming(studies, shown))


def study_shape(
    studies: Sequence[str], shown: pd.Series, column: str = "study", first: int = 0
) -> alt.Shape:
    """A shape for each study, which repeats its colour (:func:`study_colour`)."""
    shapes = [STUDY_SHAPES[(first + i) % len(STUDY_SHAPES)] for i in range(len(studies))]
    scale = alt.Scale(domain=list(studies), range=shapes)
    return alt.Shape(f"{column}:N", scale=scale, legend=_naming(studies, shown))


def _naming(studies: Sequence[str], shown: pd.Series) -> alt.Legend:
    there = set(shown)
    return alt.Legend(values=[study for study in studies if study in there])
