"""The report of a calibration: how well the rungs predict the finished model, and the advice."""

from __future__ import annotations

from collections.abc import Sequence

from imbtune.metrics.metric import Metric, metric_from
from imbtune.report.charts.result_charts import rho_chart
from imbtune.report.charts.theme import WIDTH, Chart
from imbtune.report.frames.calibration_frame import CalibrationData, rung_frame
from imbtune.report.next_steps import command
from imbtune.report.pages.rendering import figure_images, rendered
from imbtune.report.sections import FigureText
from imbtune.report.wording import counted, not_complete, provenance, renamed
from imbtune.study.results.calibration_result import (
    HEADINGS,
    Calibration,
    cautions,
    format_rho,
    notes_of,
    table_of,
)

BUDGET = FigureText(
    "budget",
    "How well each rung predicts",
    "ρ is Spearman's rank correlation between the scores at a rung and those of the same "
    "configurations after a full run with another seed; the line through a mark is its 90 % "
    "interval. Two full runs correlate as the upper dashed line says, which is the most that a "
    "rung can be expected to reach. From the lower one on, a rung is usable, if its interval lies "
    "above 0.",
    key="Line through a mark: 90 % interval. Upper dashed line: two full runs of the same "
    "configurations. From the lower one on, a rung is usable, if its interval lies above 0.",
)
COST = FigureText(
    "cost",
    "What a search with these rungs costs",
    "The same rungs against the mean cost of a trial, in full runs, if a search stops trials from "
    "this rung on. Good rungs are at the upper left.",
    key="A mark is a rung, from which on a search stops trials. Good ones are at the upper left.",
)
FIGURES = (BUDGET, COST)


class CalibrationPlots:
    """The figures of a calibration; each method returns an Altair chart.

    A method raises :class:`NothingToDrawError` where the calibration has no result yet.
    """

    def __init__(self, data: CalibrationData) -> None:
        self._data = data

    def budget(self, width: int = WIDTH) -> Chart:
        """ρ of each rung against its budget."""
        return self._chart("budget", "rung, epochs (logarithmic)", width)

    def cost(self, width: int = WIDTH) -> Chart:
        """ρ of each rung against what a trial costs in a search with it."""
        return self._chart("cost", "mean cost of a trial, full runs", width)

    def _chart(self, against: str, title: str, width: int) -> Chart:
        frame = rung_frame(self._data)
        assert self._data.found is not None  # else there is no frame
        return rho_chart(frame, self._data.found.floor, against, title, width)


def calibration_page(data: CalibrationData, live: str | None = None) -> str:
    """The report of a calibration, as HTML without JavaScript.

    Args:
        live: as for :func:`imbtune.report.pages.rendering.rendered`.
    """
    plots, found = CalibrationPlots(data), data.found
    objective = _objective(data)
    badge, headline, lead = _verdict(found)
    runs = counted(2 * data.planned, "run")
    return rendered(
        "result.html",
        title=f"{data.name} · imbtune",
        renamed=renamed(data.name, data.path),
        name=data.name,
        purpose=f"calibration · {data.done} of {runs}",
        badge=badge,
        verdict="",
        headline=headline,
        lead=lead,
        facts=_facts(data),
        step=_step(data),
        warnings=[*_warnings(data), *(f"{each}." for each in (cautions(found) if found else ()))],
        table_title="The rungs",
        headings=HEADINGS,
        lines=[[(cell, False) for cell in line] for line in (table_of(found) if found else ())],
        notes=notes_of(found, data.planned, objective) if found else (),
        figures=[figure_images(getattr(plots, text.name), text) for text in FIGURES],
        provenance=provenance(data.path, data.info, objective.score_name, ()),
        interactive=False,
        live=live,
    )


def _objective(data: CalibrationData) -> Metric:
    return metric_from(data.info["space"]["objective"])


def _verdict(found: Calibration | None) -> tuple[str, str, str]:
    """The advice in a few words, in a sentence, and why."""
    if found is None:
        return "no result yet", "The result is computed when all runs have ended.", ""
    advice = found.advice
    why = f"Advice: {advice.text}."
    if advice.rungs == "none":
        return "no early stopping", "No rung is proven to predict the finished model.", why
    rho = next(r.rho for r in found.reports if (r.kind, r.budget) == (advice.rungs, advice.start))
    return (
        f"{advice.rungs} rungs",
        f"Scores after {advice.start} of {found.full_budget} epochs predict the finished model: "
        f"ρ = {format_rho(rho)} with {advice.rungs} rungs.",
        why,
    )


def _facts(data: CalibrationData) -> Sequence[tuple[str, str]]:
    found = data.found
    facts = [("configurations, two seeds each", str(found.trials if found else data.planned))]
    if found:
        facts += [
            ("full budget, epochs", str(found.full_budget)),
            ("ρ between two full runs", format_rho(found.floor)),
        ]
    return facts


def _warnings(data: CalibrationData) -> list[str]:
    if data.found is not None:
        return []
    return not_complete("calibration", data.done, 2 * data.planned, data.activity)


def _step(data: CalibrationData) -> tuple[str, str] | None:
    if data.found is not None:
        what = "prints this table, and the command of a search with these rungs"
        return command("resume", data.path), what
    if data.activity.locked is False:
        return command("resume", data.path), "trains the runs that are left"
    return None
