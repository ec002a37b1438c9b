"""The report of several studies: one table, and the charts that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from imbtune.errors import StudyError
from imbtune.report.charts import studies_charts
from imbtune.report.charts.theme import DARK, Chart
from imbtune.report.frames import studies_frames
from imbtune.report.next_steps import command
from imbtune.report.packed import names_of, packed, packed_columns, without_tables
from imbtune.report.pages.rendering import NARROW, WIDE, figure_images, rendered, sentence
from imbtune.report.sections import FigureText
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.report.wording import (
    badly_ended,
    duration,
    finals_count_images,
    not_ended,
    number,
    p_value,
    points,
)

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


def how_they_ended(studies: Sequence[StudyData]) -> list[str]:
    """Of each search that is not complete, a sentence with its name, and the command to resume."""
    found = []
    for study, label in zip(studies, studies_frames.labels_of(studies), strict=True):
        if not study.has_ended:
            goes_on = "" if study.is_running else f" To resume it: {command('resume', study.path)}"
            found.append(f"{label}: {not_ended(study)}{goes_on}")
        else:
            found += [f"{label}: {line}" for line in badly_ended(study)]
    return found


def studies_page(studies: Sequence[StudyData]) -> str:
    """The report that compares several studies, as HTML.

    Raises:
        StudyError: a study is given twice.
    """
    labels = studies_frames.labels_of(studies)
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise StudyError(f"the study {twice[0]} is given twice: give each once")
    objectives = studies_frames.by_objective(studies)

    def parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """The rows of each metric that has some, by the metric in words: an axis has one metric."""
        rows = {words: frame[frame["study"].isin(names)] for words, names in objectives.items()}
        return {words: part.reset_index(drop=True) for words, part in rows.items() if len(part)}

    def progress() -> list[tuple[str, Chart]]:
        found = parts(studies_frames.shared_progress(studies)).items()
        draw = studies_charts.studies_progress_chart
        return [(words, draw(part, labels, words)) for words, part in found]

    def recall() -> list[tuple[str, Chart]]:
        frame = studies_frames.shared_recall(studies)
        return [("", studies_charts.studies_recall_chart(frame, labels))]

    def finals() -> list[dict[str, Any]]:
        text = finals_text(studies)
        try:
            found = parts(studies_frames.shared_finals(studies))
        except NothingToDrawError as error:
            return [{"text": text, "images": [], "missing": sentence(str(error))}]
        several, images = len(objectives) > 1, []
        for i, (words, part) in enumerate(found.items()):
            chart = partial(studies_charts.studies_finals_chart, part, labels, words)
            one = replace(text, name=f"finals-{i}", title=words if several else text.title)
            images.append(figure_images(chart, one, (2 * WIDE, NARROW)))
        return images

    charts = {"progress": progress, "recall": recall}
    tables: dict[str, pd.DataFrame] = {}
    specs: dict[str, Any] = {}
    figures = []
    for text in OTHERS:
        try:
            drawn = charts[text.name]()
        except NothingToDrawError as error:
            figures.append({"text": text, "panels": [], "missing": sentence(str(error))})
            continue
        panels = []
        for i, (words, chart) in enumerate(drawn):
            described = chart.properties(description=": ".join(filter(None, (text.title, words))))
            spec = without_tables(described.to_dict(validate=False), tables)
            specs[f"{text.name}-{i}"] = {"spec": spec, "tables": names_of(spec)}
            panels.append({"key": f"{text.name}-{i}", "title": words})
        figures.append({"text": text, "panels": panels, "missing": ""})

    content = {
        "tables": {name: packed_columns(frame) for name, frame in tables.items()},
        "figures": specs,
        "dark": DARK,
    }
    return rendered(
        "studies.html",
        title=f"{len(studies)} studies · imbtune",
        rows=records(studies_frames.studies_frame(studies)),
        warnings=[*studies_frames.differences(studies), *how_they_ended(studies)],
        finals_text=finals_text(studies),
        finals=finals(),
        metric=next(iter(objectives)) if len(objectives) == 1 else "value of its metric",
        figures=figures,
        reports=[command("report", study.path) for study in studies],
        number=number,
        points=points,
        p_value=p_value,
        duration=duration,
        data=packed(content),
        interactive=bool(specs),
    )
