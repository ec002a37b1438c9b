"""The charts of a study, by name: `study.plot.recall_by_size()`."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations

import pandas as pd

from imbtune.report.charts import finals_charts, front_chart, knob_charts, search_charts
from imbtune.report.charts.theme import WIDTH, Chart
from imbtune.report.dependence import dependence_frame
from imbtune.report.frames import (
    confusion_frames,
    finals_frames,
    front_frame,
    search_frames,
    trial_frame,
)
from imbtune.report.importance import importance
from imbtune.report.missing import none_finished
from imbtune.report.study_data import CHOICES, NothingToDrawError, SearchedKnob, StudyData

FEWEST = 3  # finished trials in which a knob acts, below which its panel would say nothing


class StudyPlots:
    """The figures of one study; each method returns an Altair chart.

    Save one with `chart.save("figure.svg")` (also .png, .pdf, .html); in a notebook a chart is
    shown as it is. Colours: orange and a diamond is the winner, blue and a square the best preset.
    Scores are on the validation images.

    Every method raises :class:`NothingToDrawError`, an ImbtuneError, where the study has not
    recorded what its figure shows; the message says what is missing.
    """

    def __init__(self, study: StudyData, trials: pd.DataFrame | None = None) -> None:
        """
        Args:
            study: its tables.
            trials: the frame of `trial_frame`, if it is made already.
        """
        self._study, self._given = study, trials

    def __repr__(self) -> str:
        names = [n for n in vars(type(self)) if not n.startswith("_")]
        return f"the figures of {self._study.name}: {', '.join(f'{name}()' for name in names)}"

    @cached_property
    def _trials(self) -> pd.DataFrame:
        return trial_frame.trial_frame(self._study) if self._given is None else self._given

    @cached_property
    def _dependence(self) -> pd.DataFrame:
        try:
            return dependence_frame(self._study)
        except NothingToDrawError:
            return pd.DataFrame(columns=["column", "x", "low", "mean", "high"])

    def finals(self, width: int = WIDTH) -> Chart:
        """The finalists: a dot per fresh seed, their mean with its 95 % interval, and hollow the
        score of one run by which the search chose each."""
        title = f"{self._study.objective} on the validation images"
        return finals_charts.finals_chart(finals_frames.finals_frame(self._study), title, width)

    def front(self) -> Chart:
        """The objectives of a search with several of them against each other, two at a time, with
        the Pareto front."""
        return knob_charts.wrapped([chart for _, chart in self._front_panels()], columns=1)

    def recall_by_size(self, width: int = WIDTH) -> Chart:
        """The recall of each class against its training images, the winner's and the best preset's,
        with Wilson's 95 % interval for the validation images of the class."""
        return finals_charts.recall_chart(finals_frames.recall_frame(self._study), width)

    def recall_change(self) -> Chart:
        """A line per class from the best preset's recall to the winner's."""
        return finals_charts.slope_chart(confusion_frames.slope_frame(self._study))

    def margins(self, width: int = WIDTH) -> Chart:
        """The winner's mean margin of each class on training and on validation images."""
        return finals_charts.margin_chart(confusion_frames.margin_frame(self._study), width)

    def confusion(self) -> Chart:
        """What the winner confuses, classes ordered by size; of many classes the worst pairs."""
        frame = confusion_frames.confusion_frame(self._study)
        matrix = len(self._study.classes) <= confusion_frames.MOST_IN_MATRIX
        return finals_charts.confusion_chart(frame, matrix)

    def importance(self) -> Chart:
        """How much each searched knob mattered for reaching the best tenth of the finished trials,
        with a 90 % interval."""
        return knob_charts.importance_chart(importance(self._study))

    def parts(self) -> Chart:
        """The scores of the finished trials for each choice of each searched part."""
        return knob_charts.wrapped([chart for _, chart in self._part_panels()])

    def knobs(self) -> Chart:
        """The score against each searched number, over the finished trials in which it acts, with
        the average dependence and its 90 % band where enough trials have finished."""
        return knob_charts.wrapped([chart for _, chart in self._knob_panels()], "shared")

    def parallel(self) -> Chart:
        """The best 200 finished trials as lines over the searched knobs; those that do not act have
        a lane of their own below the axes."""
        return knob_charts.parallel_chart(search_frames.parallel_frame(self._study))

    def scores(self, width: int | str = WIDTH) -> Chart:
        """Every trial's score at its highest rung, in the order of the trials."""
        return search_charts.score_chart(self._trials, self._study.objective, width)

    def rungs(self) -> Chart:
        """The scores at each rung, the cut-off, and what became of each trial."""
        return knob_charts.wrapped([chart for _, chart in self._rung_panels()], columns=1)

    def progress(self, width: int | str = WIDTH) -> Chart:
        """The best score so far against the image passes of all trials."""
        frame = trial_frame.progress_frame(self._study)
        return search_charts.progress_chart(frame, self._study.objective, width)

    def curves(self, width: int | str = WIDTH) -> Chart:
        """Learning curves of the finalists, the presets and the best 20 trials, over the range of
        all trials."""
        frame = search_frames.curve_frame(self._study)
        bands = search_frames.curve_band_frame(self._study)
        return search_charts.curve_chart(frame, bands, self._study.objective, width)

    def timeline(self, width: int | str = WIDTH) -> Chart:
        """When each trial and final ran, and on which machine and GPU."""
        return search_charts.timeline_chart(trial_frame.timeline_frame(self._study), width)

    def _panels(self, name: str) -> list[tuple[str, Chart]]:
        """The charts of `front`, `rungs`, `parts` or `knobs` one by one, each with its heading."""
        if name == "knobs":
            return self._knob_panels(brushed=True)
        if name == "front":
            return self._front_panels()
        return self._rung_panels() if name == "rungs" else self._part_panels()

    def _front_panels(self) -> list[tuple[str, Chart]]:
        frame = front_frame.front_frame(self._study)
        names = [metric.words() for metric in self._study.objectives]
        pairs = combinations(enumerate(names), 2)
        return [
            (f"{one[1]} and {other[1]}", front_chart.front_chart(frame, one, other))
            for one, other in pairs
        ]

    def _rung_panels(self) -> list[tuple[str, Chart]]:
        study, frame = self._study, self._trials
        if len(study.budgets) < 2:
            raise NothingToDrawError("the study has one rung, so that no trial could be stopped")
        rungs = [(f"r{i}", budget) for i, budget in enumerate(study.budgets[:-1])]
        rungs = [(column, budget) for column, budget in rungs if frame[column].notna().any()]
        if not rungs:
            yet = "" if self._study.has_ended else " yet"
            raise NothingToDrawError(f"no trial has reached a rung{yet}")
        return [
            (
                f"{budget} epochs",
                search_charts.rung_chart(
                    frame, column, budget, study.objective, study.rung_rho.get(budget)
                ),
            )
            for column, budget in rungs
        ]

    def _part_panels(self) -> list[tuple[str, Chart]]:
        parts = search_frames.part_frame(self._study)
        shared = ["trial", "name", "kind", "full"]
        return [
            (
                str(name),
                knob_charts.part_chart(
                    self._trials[[*shared, rows["column"].iloc[0]]], rows, self._study.objective
                ),
            )
            for name, rows in parts.groupby("knob", sort=False)
        ]

    def _knob_panels(self, brushed: bool = False) -> list[tuple[str, Chart]]:
        frame, finished = self._trials, self._trials["full"].notna()
        if not finished.any():
            raise NothingToDrawError(none_finished(self._study))

        def drawn(knob: SearchedKnob) -> bool:
            acts = int(frame.loc[finished, knob.column].notna().sum())
            return knob.scale != CHOICES and acts >= min(FEWEST, int(finished.sum()))

        knobs = [knob for knob in self._study.knobs if drawn(knob)]
        if not knobs:
            raise NothingToDrawError(f"no searched number acts in {FEWEST} finished trials")
        curves = dict(iter(self._dependence.groupby("column")))
        columns = ["trial", "name", "kind", "full"]
        return [
            (
                knob.name,
                knob_charts.strip_chart(
                    frame[[*columns, knob.column]],
                    knob,
                    self._study.objective,
                    curves.get(knob.column),
                    brushed=brushed,
                ),
            )
            for knob in knobs
        ]
