"""The report as one HTML page: text and two images for the first minute, then interactive figures.

The page loads nothing: Vega's JavaScript, the tables and the charts are inside. What a user named
(classes, presets, studies, errors) is escaped by Jinja, is compressed JSON, or is escaped by Vega
in an SVG.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from imbtune import __version__
from imbtune.report.charts.theme import DARK, Chart
from imbtune.report.figures import inline_svg, style_variables
from imbtune.report.frames.finals_frames import class_frame
from imbtune.report.frames.trial_frame import failure_frame, trial_frame
from imbtune.report.packed import names_of, packed, packed_columns, without_tables
from imbtune.report.plots import StudyPlots
from imbtune.report.sections import FIRST, FRONT, SECTIONS, FigureText
from imbtune.report.story import story_of
from imbtune.report.study_data import (
    COMPLEMENT,
    NothingToDrawError,
    StudyData,
    records,
    without_nulls,
)
from imbtune.report.wording import counted, trials_done

MARK = "<!-- imbtune report -->"  # how a file that may be replaced begins
WIDE, NARROW = 545, 350  # widths of the first screen's images
WORST = 12  # classes in the table of the worst
STATIC_ROWS = 10  # trials in the table without JavaScript
SCRIPTS = ("vega", "vega-lite", "vega-embed")  # in the order in which they are loaded


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
            return {"text": text, "panels": [], "missing": _sentence(str(error))}
        found = []
        for i, (title, chart) in enumerate(panels):
            key = f"{text.name}-{i}" if text.panels else text.name
            described = chart.properties(description=f"{text.title}{': ' if title else ''}{title}")
            spec = without_tables(described.to_dict(validate=False), tables)
            specs[key] = {"spec": spec, "tables": names_of(spec)}
            found.append({"key": key, "title": title})
        return {"text": text, "panels": found, "missing": ""}

    shown = (FRONT, *SECTIONS) if len(study.objectives) > 1 else SECTIONS
    sections = [(section, [figure(text) for text in section.figures]) for section in shown]
    content = {
        "tables": {name: packed_columns(frame) for name, frame in tables.items()},
        "figures": specs,
        "knobs": [[knob.name, knob.column] for knob in study.knobs],
        "slots": [[knob.name, knob.column] for knob in study.knobs if "." not in knob.name],
        "complement": [knob.name for knob in study.knobs if knob.scale == COMPLEMENT],
        "command": ["imbtune", "train", "--trial", study.path],
        "dark": DARK,
    }
    return rendered(
        "report.html",
        title=f"{study.name} · imbtune",
        study=study,
        story=story_of(study),
        trials=trials_done(study),
        first=[figure_images(getattr(plots, t.name), t, (WIDE, NARROW)) for t in FIRST],
        sections=sections,
        classes=_classes(study),
        failures=records(failure_frame(study)),
        rows=_static_rows(tables.get("trials")),
        machine=machine_line(study),
        sample=never_pruned_line(study),
        provenance=provenance(study),
        data=packed(content),
        interactive=bool(specs),
        live=live,
    )


def rendered(template: str, live: str | None = None, **values: object) -> str:
    """A template with the style sheet, the scripts and the values.

    Args:
        live: entity tag of a page of a server (:mod:`imbtune.serving`); None for a file.
    """
    import jinja2

    loader = jinja2.PackageLoader("imbtune.report", "templates")
    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=undefined, trim_blocks=True, lstrip_blocks=True
    )
    light, dark = style_variables()
    return environment.get_template(f"{template}.j2").render(
        mark=MARK,
        version=__version__,
        style=_template("report.css"),
        light=light,
        dark=dark,
        live=live,
        script_names=SCRIPTS,
        scripts=[] if live else [vendored(name) for name in SCRIPTS],
        script=_template("report.js"),
        live_script=_template("live.js") if live else "",
        **values,
    )


@cache
def vendored(name: str) -> str:
    """One of Vega's scripts.

    Raises:
        ValueError: it is not the file whose hash is recorded beside it.
    """
    folder = files("imbtune.report") / "static"
    content = (folder / f"{name}.min.js").read_bytes()
    pins = json.loads((folder / "pins.json").read_text(encoding="utf-8"))
    if hashlib.sha256(content).hexdigest() != pins[name]["sha256"]:
        raise ValueError(
            f"{name}.min.js is not version {pins[name]['version']}: install imbtune again"
        )
    lines = content.decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith("//# sourceMappingURL"))


def _template(name: str) -> str:
    return (files("imbtune.report") / "templates" / name).read_text(encoding="utf-8")


def _panels(plots: StudyPlots, text: FigureText) -> Sequence[tuple[str, Chart]]:
    if text.panels:
        return plots._panels(text.name)
    return [("", getattr(plots, text.name)())]


def figure_images(
    chart: Callable[[int], Chart], text: FigureText, widths: tuple[int, int]
) -> dict[str, Any]:
    """A figure of the first screen: two images, for wide and for narrow windows.

    Args:
        chart: draws it in a width.
    """
    try:
        images = [
            (size, inline_svg(chart(width), f"{text.name}-{size}", text.title))
            for size, width in zip(("wide", "narrow"), widths, strict=True)
        ]
    except NothingToDrawError as error:
        return {"text": text, "images": [], "missing": _sentence(str(error))}
    return {"text": text, "images": images, "missing": ""}


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
    """The classes with the lowest recall of the winner, lowest first."""
    try:
        frame = class_frame(study)
    except NothingToDrawError:
        return []
    worst = frame[frame["winner"].notna()].sort_values(["winner", "images"], kind="stable")[:WORST]
    return without_nulls(worst)


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
            f"what stopping costs (the never-pruned sample). It scored {best:.3f} and {would} "
            f"lead: the best other trial scored {leader:.3f}."
        )
    return (
        f"{len(sample)} trials that would have been stopped were trained to the full budget, to "
        f"measure what stopping costs (the never-pruned sample). The best of them scored "
        f"{best:.3f} and {would} lead: the best other trial scored {leader:.3f}."
    )


def provenance(study: StudyData) -> list[tuple[str, str]]:
    """Where the study comes from: pairs of a heading and a text."""
    info = study.info
    versions, data = info.get("versions"), info.get("data")
    recorded = info.get("space")
    space = recorded if isinstance(recorded, Mapping) else {}
    found = [
        ("command", info.get("command")),
        ("folder", study.path),
        ("started", info.get("started")),
        ("ended", info.get("ended")),
        ("how it ended", info.get("end")),
        ("space", ": ".join(str(space[key]) for key in ("name", "about") if space.get(key))),
        ("sampler", info.get("sampler")),
        ("seed", info.get("seed")),
        ("rungs, in epochs", ", ".join(map(str, study.budgets))),
        ("objective", ", ".join(map(str, study.objectives)) or study.objective),
        ("SHA-256 of the data", data.get("sha256") if isinstance(data, Mapping) else None),
    ]
    if isinstance(versions, Mapping):
        found.append(("versions", ", ".join(f"{name} {v}" for name, v in versions.items())))
    return [(heading, str(text)) for heading, text in found if text not in (None, "")]


def _sentence(message: str) -> str:
    return message.rstrip(".") + "."
