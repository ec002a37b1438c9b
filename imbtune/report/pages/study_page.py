"""The report of one study: text and two images for the first minute, then interactive figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from imbtune.report.charts.theme import DARK, Chart
from imbtune.report.first_screen.story import story_of
from imbtune.report.frames.finals_frames import class_frame, recall_interval
from imbtune.report.frames.trial_frame import failure_frame, trial_frame
from imbtune.report.next_steps import trainings
from imbtune.report.packed import names_of, packed, packed_columns, without_tables
from imbtune.report.pages.rendering import figure_images, rendered, sentence
from imbtune.report.plots import StudyPlots
from imbtune.report.sections import FIRST, FRONT, SECTIONS, FigureText
from imbtune.report.study_data import (
    COMPLEMENT,
    NothingToDrawError,
    StudyData,
    records,
    without_nulls,
)
from imbtune.report.wording import counted, number, provenance, renamed, texts_of, trials_done

WORST = 12  # classes in the table of the worst
STATIC_ROWS = 10  # trials in the table without JavaScript


def study_page(study: StudyData, live: str | None = None) -> str:
    """The report of one study, as HTML.

    Args:
        live: entity tag of a page of a server, which loads the scripts and its own changes from
            there; None for a file.
    """
    tables: dict[str, pd.DataFrame] = {}
    specs: dict[str, dict[str, Any]] = {}
    frame = None
    if len(study.trials):
        frame = tables["trials"] = _table_rows(study)
        frame.attrs["name"] = "trials"
    plots = StudyPlots(study, frame)

    def figure(text: FigureText) -> dict[str, Any]:
        try:
            panels = _panels(plots, text)
        except NothingToDrawError as error:
            return {"text": text, "panels": [], "missing": sentence(str(error))}
        found = []
        for i, (title, chart) in enumerate(panels):
            key = f"{text.name}-{i}" if text.panels else text.name
            described = chart.properties(description=f"{text.title}{': ' if title else ''}{title}")
            spec = without_tables(described.to_dict(validate=False), tables)
            specs[key] = {"spec": spec, "tables": names_of(spec)}
            found.append({"key": key, "title": title})
        return {"text": text, "panels": found, "missing": ""}

    shown = (FRONT, *SECTIONS) if len(study.objectives) > 1 else SECTIONS
    sections = [
        (section, [figure(text) for text in texts_of(study, section.figures)]) for section in shown
    ]
    content = {
        "tables": {name: packed_columns(frame) for name, frame in tables.items()},
        "figures": specs,
        "knobs": [[knob.name, knob.column] for knob in study.knobs],
        "slots": [[knob.name, knob.column] for knob in study.knobs if "." not in knob.name],
        "complement": [knob.name for knob in study.knobs if knob.scale == COMPLEMENT],
        "command": ["imbtune", "train", "--trial", study.path],
        "trainings": trainings(study),
        "dark": DARK,
    }
    return rendered(
        "report.html",
        title=f"{study.name} · imbtune",
        renamed=renamed(study.name, study.path),
        study=study,
        story=story_of(study),
        trials=trials_done(study),
        first=[figure_images(getattr(plots, t.name), t) for t in texts_of(study, FIRST)],
        sections=sections,
        classes=_classes(study),
        failures=records(failure_frame(study)),
        rows=_static_rows(tables.get("trials")),
        machine=machine_line(study),
        sample=never_pruned_line(study),
        number=number,
        provenance=provenance(
            study.path,
            study.info,
            ", ".join(metric.score_name for metric in study.objectives) or study.objective,
            study.budgets,
        ),
        data=packed(content),
        interactive=bool(specs),
        live=live,
    )


def _panels(plots: StudyPlots, text: FigureText) -> Sequence[tuple[str, Chart]]:
    if text.panels:
        return plots._panels(text.name)
    return [("", getattr(plots, text.name)())]


def _table_rows(study: StudyData) -> pd.DataFrame:
    """The trials with their mean over the finals, which the table shows."""
    frame = trial_frame(study)
    means = study.finals.groupby("trial")["score"].mean().to_dict()
    return frame.assign(final=frame["trial"].map(means).astype(float))


def _static_rows(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The first rows of the table, for a browser without JavaScript."""
    if frame is None:
        return []
    ranked = frame.sort_values(["final", "full", "score"], ascending=False, kind="stable")
    return without_nulls(ranked[:STATIC_ROWS])


def _classes(study: StudyData) -> list[dict[str, Any]]:
    """The classes with the lowest recall of the winner, lowest first.

    They are those whose Wilson's interval ends lowest: 0 of one image says less than 10 of 50.
    """
    try:
        frame = class_frame(study)
    except NothingToDrawError:
        return []
    known = frame[frame["winner"].notna()]
    pairs = zip(known["winner"], known["validation"], strict=True)
    known = known.assign(high=[recall_interval(recall, n)[1] or 1.0 for recall, n in pairs])
    worst = known.sort_values("high", kind="stable")[:WORST]
    return without_nulls(worst.sort_values(["winner", "images"], kind="stable"))


def machine_line(study: StudyData) -> str:
    """How busy the machines were, in a sentence; empty where it is not recorded."""
    from imbtune.report.frames.trial_frame import timeline_frame

    try:
        frame = timeline_frame(study)
    except NothingToDrawError:
        return ""
    busy = (frame["ended"] - frame["started"]).sum()
    whole = frame["ended"].max() * frame["lane"].nunique()
    share = f"{100 * busy / whole:.0f} %" if whole > 0 else "all"
    places = frame["place"].nunique()
    return (
        f"Up to {counted(frame['lane'].nunique(), 'run')} at a time, on "
        f"{counted(places, 'machine or GPU', 'machines and GPUs')}; from the first run to the last "
        f"they were busy for {share} of the time."
    )


def never_pruned_line(study: StudyData) -> str:
    """What stopping cost by the never-pruned sample, in a sentence; empty without one."""
    trials = study.finished
    sample = trials[trials["rescued"].notna()]
    if sample.empty:
        return ""
    others = trials[trials["rescued"].isna()]["score"]
    best, leader = sample["score"].max(), others.max() if len(others) else float("nan")
    would = "would" if best > leader else "would not"
    if len(sample) == 1:
        return (
            "One trial that would have been stopped was trained to the full budget, to measure "
            f"what stopping costs (the never-pruned sample). It scored {number(best)} and {would} "
            f"lead: the best other trial scored {number(leader)}."
        )
    return (
        f"{len(sample)} trials that would have been stopped were trained to the full budget, to "
        f"measure what stopping costs (the never-pruned sample). The best of them scored "
        f"{number(best)} and {would} lead: the best other trial scored {number(leader)}."
    )
