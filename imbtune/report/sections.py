"""The figures of the page in their order, each with how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FigureText:
    """What stands at a figure.

    Attributes:
        name: of the method of StudyPlots that draws it.
        title: its heading.
        reading: how to read it, and what it does not say.
        panels: whether the page shows it as several small charts.
        key: what its marks and colours mean, which is written below the chart in a picture of it
            alone; the chart's own legend is not repeated.
        on_page: what the reader of the interactive page can do with it.
    """

    name: str
    title: str
    reading: str
    panels: bool = False
    key: str = ""
    on_page: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its place in the page's address.
        title: its heading, a question.
        figures: in their order.
    """

    anchor: str
    title: str
    figures: Sequence[FigureText]


_KINDS = "Orange diamond: the winner. Blue square: the best preset."
_OTHERS = f"{_KINDS} Grey squares: other presets. Grey dots: other trials."
FIRST = (
    FigureText(
        "finals",
        "The finals, seed by seed",
        "Each finalist was trained again with fresh seeds: a small dot is one seed, the large mark "
        "their mean, the bar its 95 % interval. The hollow circle is the score of one run by which "
        "the search chose it; it is usually too high.",
        key="Small dots: one fresh seed each. Large mark: their mean. Bar: its 95 % interval, "
        "not corrected for the choice of the winner. "
        f"Hollow circle: the score of one run by which the search chose it. {_KINDS}",
    ),
    FigureText(
        "recall_by_size",
        "Recall against class size",
        "Each mark is a class; of more than 100 classes, a group of similar size. The line through "
        "a mark is Wilson's 95 % interval for that many validation images. It does not count the "
        "variation between seeds.",
        key="A mark is a class, or of many classes a group of similar size. Line through a mark: "
        "Wilson's 95 % interval.",
    ),
)

FRONT = Section(  # of a search with several objectives
    "front",
    "Which compromises are there?",
    (
        FigureText(
            "front",
            "Pareto front",
            "Each small point is a finished trial with its scores of one run. The large marks are "
            "the finalists at their means over the fresh seeds, and a line leads there from the "
            "scores of one run, which are usually too high. The dashed line joins the front: no "
            "other one of them is better in one objective without being worse in another. Without "
            "finals the front is that of the scores of one run.",
            panels=True,
            key="Small dots: scores of one run. Large marks: means over the fresh seeds, or "
            "without finals the front of one run; a line leads there from the scores of one run. "
            f"Dashed line: the Pareto front, with the numbers of its trials. {_KINDS}",
        ),
    ),
)
SECTIONS = (
    Section(
        "classes",
        "Which classes gain, which lose?",
        (
            FigureText(
                "recall_change",
                "From the best preset to the winner",
                "Each line is a class. Grey lines are within the error: Wilson's 95 % intervals "
                "of the two recalls overlap, for so many validation images. Of the others, the "
                "largest changes are named, in points of recall.",
                key="A line is a class. Within the error: Wilson's 95 % intervals of the two "
                "recalls overlap. Numbers: the change in points.",
            ),
            FigureText(
                "confusion",
                "What the winner confuses",
                "Rows are true classes, largest first; colour is the share of a class's validation "
                "images that were predicted as another class. The diagonal, the recall, is not on "
                "the scale. Of more than 30 classes only the most confused pairs, by the lower "
                "end of Wilson's 95 % interval.",
                key="Share of a class's validation images; on a matrix's diagonal, the recall.",
            ),
            FigureText(
                "margins",
                "Margins in training and validation",
                "The margin is the probability of the true class minus the largest other one. A "
                "class far apart on the two kinds of images is memorised rather than learned.",
                key="A line joins the two margins of a class: the probability of the true class "
                "minus the largest other one.",
            ),
        ),
    ),
    Section(
        "importance",
        "What mattered?",
        (
            FigureText(
                "importance",
                "Importance of the searched knobs",
                "Conditional PED-ANOVA of the finished trials: how much a knob's values among the "
                "best tenth differ from those that were tried. The line is a 90 % interval over "
                "resampled trials; in brackets, the finished trials in which the knob acts. "
                "Stopped trials are not counted, since their scores are from fewer epochs.",
                key="Line: 90 % interval. In brackets: finished trials in which the knob acts.",
            ),
            FigureText(
                "parts",
                "Score by choice",
                "Each point is a finished trial, the tick is the median, in brackets the number of "
                "trials. Trials in which a choice does not act are not in its panel. The sampler "
                "tried what looked good more often, so the panels do not isolate a cause.",
                panels=True,
                key="A point is a finished trial, the tick the median. In brackets: trials. "
                f"{_OTHERS}",
            ),
        ),
    ),
    Section(
        "where",
        "Where are the good values?",
        (
            FigureText(
                "knobs",
                "Score by value",
                "Each point is a finished trial in which the knob acts. The grey line is the "
                "average prediction of random forests for that value, the band its 90 % range "
                "over resampled trials; it is drawn where there are trials, and from 50 finished "
                "trials on. A knob that acts in fewer than 3 finished trials has no panel.",
                panels=True,
                on_page="Drag over points to see the same trials in every other figure of single "
                "trials.",
                key="A point is a finished trial. Grey line and band, from 50 of them on: average "
                f"prediction of random forests, and its 90 % range. {_OTHERS}",
            ),
            FigureText(
                "parallel",
                "The best configurations as lines",
                "Each line is a finished trial; of more than 200, the best 200. A knob "
                "that does not act in a trial is drawn below the axis, which is no value; one "
                "that acts in none of them "
                "has no axis.",
                key="A line is a finished trial, of more than 200 one of the best 200. Orange: the "
                "winner. Blue: the best preset. Grey: others.",
            ),
        ),
    ),
    Section(
        "stopping",
        "Was stopping right?",
        (
            FigureText(
                "rungs",
                "Scores at the rungs",
                "What each trial scored at a rung, and what became of it. The dashed line is the "
                "cut-off at the time. Triangles are the never-pruned sample: trials that "
                "would have been stopped, and were trained to the end to measure what stopping "
                "costs. A correlation over the trials that went on would say little, because the "
                "others are missing from it; imbtune calibrate measures it without stopping any.",
                panels=True,
                key="A mark is a trial. Dashed line: the cut-off at the time. Never-pruned sample: "
                "trials below the cut-off that were trained to the end.",
            ),
        ),
    ),
    Section(
        "search",
        "How did the search go?",
        (
            FigureText(
                "scores",
                "Every trial",
                "The score at the highest rung that a trial reached, so scores of stopped and of "
                "finished trials are after different numbers of epochs. Below the axis: failed "
                "before the first rung.",
                on_page="Drag over trials to select them in every figure of single trials.",
                key="A mark is a trial at its highest rung; below the axis, trials that failed "
                "before the first one. "
                f"{_KINDS}",
            ),
            FigureText(
                "progress",
                "Best score against compute",
                "The line is the best score of one run so far, which rises by luck as well. "
                "One image pass is a forward and a backward pass of one image.",
                key="Line: the best score of one run so far. A point is a finished trial. "
                f"{_OTHERS}",
            ),
            FigureText(
                "curves",
                "Learning curves",
                "Winner (orange), best preset (blue, dashed), and grey the other presets, "
                "finalists and up to 20 best trials. The band holds 80 % of all trials at that "
                "epoch, the dashed grey line is their median; both are of fewer trials after "
                "each rung.",
                key="Orange: the winner. Blue, dashed: the best preset. Thin grey lines: other "
                "presets, finalists and up to 20 best trials. Band: 80 % of all trials. Dashed "
                "grey line: their median.",
            ),
        ),
    ),
    Section(
        "machines",
        "Where did the time go?",
        (
            FigureText(
                "timeline",
                "Runs by machine",
                "Each bar is a run: a trial, or one seed of the finals. In a gap, the machine or "
                "GPU was idle.",
                key="A bar is a run: a trial, or one seed of the finals.",
            ),
        ),
    ),
)

EVERY = (*FIRST, *FRONT.figures, *(figure for section in SECTIONS for figure in section.figures))
