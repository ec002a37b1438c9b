"""The report of a comparison: the table of `imbtune compare`, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imbtune.metrics.metric import Metric
from imbtune.report.charts import finals_charts, result_charts
from imbtune.report.charts.theme import WIDTH, Chart
from imbtune.report.first_screen.story import BETTER
from imbtune.report.frames.comparison_frames import (
    ComparisonData,
    group_frame,
    lead_frame,
    seeds_frame,
)
from imbtune.report.next_steps import command
from imbtune.report.pages.rendering import figure_images, rendered
from imbtune.report.sections import FigureText
from imbtune.report.wording import counted, duration, not_complete, p_value, provenance, renamed
from imbtune.study.results.table import TableRow

CHANCE = 0.05  # the corrected p from which a difference may be chance

SEEDS = FigureText(
    "seeds",
    "Every seed",
    "A small dot is one run on the test images, the large mark the mean of a configuration, the "
    "bar ± the sample standard deviation over its seeds. Orange is the best configuration, blue "
    "the best preset of the others.",
    key="Small dots: one run each. Large mark: their mean. Bar: ± the sample standard deviation. "
    "Orange diamond: the best configuration. Blue square: the best preset of the others.",
)
LEAD = FigureText(
    "lead",
    "Difference to the reference",
    "The mean difference over the seeds, higher is better, and its 95 % interval by the paired "
    "t-test (not corrected for the number of tests; the p-values of the table are). An interval "
    "that crosses the dashed line may be chance. It counts the variation between seeds only.",
    key="Line: 95 % interval by the paired t-test over the seeds. Dashed line: the reference.",
)
GROUPS = FigureText(
    "groups",
    "Recall by class size",
    "The mean recall of the classes with many (over 100), medium (20 to 100) and few (under 20) "
    "training images, the bar ± the sample standard deviation over the seeds.",
    key="Bar: ± the sample standard deviation over the seeds.",
)
FIGURES = (SEEDS, LEAD, GROUPS)


class ComparisonPlots:
    """The figures of a comparison; each method returns an Altair chart.

    A method raises :class:`NothingToDrawError` where the comparison has not what it shows.
    """

    def __init__(self, data: ComparisonData) -> None:
        self._data = data

    def seeds(self, width: int = WIDTH) -> Chart:
        """A dot per run, and the mean of each configuration ± the standard deviation."""
        title = f"{self._data.objective} on the test images"
        return finals_charts.finals_chart(seeds_frame(self._data), title, width)

    def lead(self, width: int = WIDTH) -> Chart:
        """The difference of each configuration to the reference, with its 95 % interval."""
        objective = self._data.table.objective
        unit = "points" if objective.is_share else objective.words()
        title = f"{unit} over {self._data.table.reference}"
        return result_charts.lead_chart(lead_frame(self._data), title, width)

    def groups(self, width: int = WIDTH) -> Chart:
        """The recall of the classes with many, medium and few training images."""
        return result_charts.group_chart(group_frame(self._data), width)


def comparison_page(data: ComparisonData, live: str | None = None) -> str:
    """The report of a comparison, as HTML without JavaScript.

    Args:
        live: as for :func:`imbtune.report.pages.rendering.rendered`.
    """
    plots = ComparisonPlots(data)
    badge, headline, lead = _verdict(data)
    done, planned = len(data.runs), len(data.comparison.runs)
    return rendered(
        "result.html",
        title=f"{data.name} · imbtune",
        renamed=renamed(data.name, data.path),
        name=data.name,
        purpose=f"comparison · {done} of {counted(planned, 'run')}",
        badge=badge,
        verdict=BETTER if badge.startswith("better") else "",
        headline=headline,
        lead=lead,
        facts=_facts(data),
        step=_step(data),
        warnings=_warnings(data),
        table_title=data.layout.title,
        headings=data.layout.headings,
        lines=[[(cell.text, cell.bold) for cell in line] for line in data.layout.lines],
        notes=data.layout.notes,
        figures=[figure_images(getattr(plots, text.name), text) for text in FIGURES],
        provenance=provenance(data.path, data.info, str(data.table.objective), ()),
        interactive=False,
        live=live,
    )


def _verdict(data: ComparisonData) -> tuple[str, str, str]:
    """The result in a few words, in a sentence, and how far the best row is ahead."""
    table = data.table
    if not table.rows:
        return "no result yet", "No run has finished yet.", ""
    best = table.rows[0]
    value = _value(best, table.objective)
    headline = f"{best.row.name} has the best {data.objective} on the test images: {value}."
    if table.reference is None:
        return "no test yet", headline, "Rows are tested when all of their seeds have been trained."
    tested = [line for line in table.rows if line.test]
    compared = next((line for line in table.rows if line is best and line.test), None)
    other = tested[0] if tested and best.row.name == table.reference else None
    line = compared or other
    if line is None or line.test is None:
        return "nothing to test against", headline, ""
    sign = table.objective.sign * (-1 if line is other else 1)
    against = line.row.name if line is other else str(table.reference)
    words = table.objective.difference(sign * line.test.lead)
    low, high, p = line.test.low, line.test.high, line.test.p_holm
    if low is None or high is None or p is None:
        return "one seed: not tested", headline, f"It is {words} over {against}."
    ends = sorted((sign * low, sign * high))
    between = " to ".join(table.objective.difference(e).split()[0] for e in ends)
    tests = f"Holm-corrected for {counted(len(tested), 'test')}"
    chance = p >= CHANCE
    said = (
        f"{words} over {against} (95 % interval {between}; paired t-test over "
        f"{counted(table.seeds, 'seed')}, {p_value(p)}, {tests}): "
        + ("that may be chance." if chance else "more than the variation between seeds explains.")
    )
    return ("the lead may be chance" if chance else f"better than {against}"), headline, said


def _value(line: TableRow, objective: Metric) -> str:
    """Mean ± deviation of the objective, as the table has it."""
    mean, std = line.means[objective.name] or 0.0, line.stds[objective.name]
    scale, digits, unit = (100, 2, " %") if objective.is_share else (1, 4, "")
    deviation = "" if std is None else f" ± {scale * std:.{digits}f}"
    return f"{scale * mean:.{digits}f}{deviation}{unit}"


def _facts(data: ComparisonData) -> Sequence[tuple[str, str]]:
    comparison = data.comparison
    epochs = sorted({int(str(row.settings["epochs"])) for row in comparison.rows})
    images = data.info.get("data")
    counts = images if isinstance(images, Mapping) else {}
    sizes = " / ".join(str(counts[key]) for key in ("train", "test") if key in counts)
    return [
        ("configurations", str(len(comparison.rows))),
        ("seeds each", str(len(comparison.seeds))),
        ("epochs", ", ".join(map(str, epochs))),
        *([("training / test images", sizes)] if "/" in sizes else []),
        ("training time of all runs", duration(float(data.runs["seconds"].sum()))),
    ]


def _warnings(data: ComparisonData) -> list[str]:
    done, planned = len(data.runs), len(data.comparison.runs)
    return [] if done >= planned else not_complete("comparison", done, planned, data.activity)


def _step(data: ComparisonData) -> tuple[str, str] | None:
    if len(data.runs) < len(data.comparison.runs) and data.activity.locked is False:
        return command("resume", data.path), "trains the runs that are left"
    winner = data.table.rows[0].row if data.table.rows else None
    if winner is not None and winner.study is not None:
        return command("train", winner.study), "trains a model of the best configuration"
    return None
