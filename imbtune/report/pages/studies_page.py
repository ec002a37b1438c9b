"""The report of several studies: one table, and the charts that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from imbtune.errors import StudyError
from imbtune.report.charts import studies_charts
from imbtune.report.charts.theme import DARK, Chart
from imbtune.report.frames import studies_frames
from imbtune.report.next_steps import command
from imbtune.report.packed import names_of, packed, packed_columns, without_tables
from imbtune.report.pages.rendering import NARROW, WIDE, figure_images, rendered
from imbtune.report.sections import FigureText
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.report.wording import duration, finals_count_images, p_value, points

OTHERS = (
    FigureText(
        "progress",
        "Best score against compute",
        "The line is the best score of one run so far, which rises by luck as well. Each point is "
        "a finished trial.",
    ),
    FigureText(
        "recall",
        "Recall of the winners against class size",
        "Each point is a class of one study, of more than 100 classes a group of similar size, "
        "with Wilson's 95 % interval for that many validation images. Of a study without finals it "
        "is the trial with the best score of one run.",
    ),
)


def finals_text(studies: Sequence[StudyData]) -> FigureText:
    """The heading of the shared finals, and how to read them, for these studies."""
    reading = (
        "Winner and best preset of each study that has finals: a small dot is one fresh seed, the "
        "large mark their mean"
    )
    with_bars = [study for study in studies if study.finals["seed"].nunique() > 1]
    counting = [finals_count_images(study) for study in with_bars]
    if with_bars:
        what = "the fresh seeds and the validation images"
        if not any(counting):
            what = "the fresh seeds alone, not the validation images"
        elif not all(counting):
            what += ", or the fresh seeds alone where a study has not recorded what the images add"
        reading += (
            f", the bar its 95 % interval. It counts {what}. It is not corrected for the choice of "
            "the winner"
        )
        if any(counting):
            reading += "; the winner's interval in the table is, so it is another one"
    reading = f"{reading}. This page does not test one study against another"
    if why := studies_frames.why_no_test(studies):
        reading += f", because {why}"
    reading += ": imbtune compare trains their winners with the same seeds and tests them."
    return FigureText("finals", "The finals of all studies", reading)


def studies_page(studies: Sequence[StudyData]) -> str:
    """The report that compares several studies, as HTML.

    Raises:
        StudyError: a study is given twice.
    """
    labels = studies_frames.labels_of(studies)
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise StudyError(f"the study {twice[0]} is given twice: give each once")
    objective = studies_frames.shared_objective(studies)
    charts: dict[str, Callable[[], Chart]] = {
        "progress": lambda: studies_charts.studies_progress_chart(
            studies_frames.shared_progress(studies), labels, objective
        ),
        "recall": lambda: studies_charts.studies_recall_chart(
            studies_frames.shared_recall(studies), labels
        ),
    }
    tables: dict[str, pd.DataFrame] = {}
    specs: dict[str, Any] = {}
    figures = []
    for text in OTHERS:
        try:
            chart = charts[text.name]().properties(description=text.title)
        except NothingToDrawError as error:
            figures.append({"text": text, "panels": [], "missing": f"{error}."})
            continue
        spec = without_tables(chart.to_dict(validate=False), tables)
        specs[text.name] = {"spec": spec, "tables": names_of(spec)}
        figures.append({"text": text, "panels": [{"key": text.name, "title": ""}], "missing": ""})

    def finals(width: int) -> Chart:
        frame = studies_frames.shared_finals(studies)
        return studies_charts.studies_finals_chart(frame, labels, objective, width)

    content = {
        "tables": {name: packed_columns(frame) for name, frame in tables.items()},
        "figures": specs,
        "dark": DARK,
    }
    return rendered(
        "studies.html",
        title=f"{len(studies)} studies · imbtune",
        rows=records(studies_frames.studies_frame(studies)),
        warnings=studies_frames.differences(studies),
        first=figure_images(finals, finals_text(studies), (2 * WIDE, NARROW)),
        figures=figures,
        reports=[command("report", study.path) for study in studies],
        points=points,
        p_value=p_value,
        duration=duration,
        data=packed(content),
        interactive=bool(specs),
    )
