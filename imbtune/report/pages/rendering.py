"""From templates and values to HTML.

A page loads nothing: Vega's JavaScript, the tables and the charts are inside. What a user named
(classes, presets, studies, errors) is escaped by Jinja, is compressed JSON, or is escaped by Vega
in an SVG.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from imbtune import __version__
from imbtune.report.charts.theme import Chart
from imbtune.report.figures import inline_svg, style_variables
from imbtune.report.sections import FigureText
from imbtune.report.study_data import NothingToDrawError

MARK = "<!-- imbtune report -->"  # how a file that may be replaced begins
WIDE, NARROW = 545, 350  # widths of the first screen's images
SCRIPTS = ("vega", "vega-lite", "vega-embed")  # in the order in which they are loaded


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
        place_script=_template("place.js"),
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


def figure_images(
    chart: Callable[[int], Chart],
    text: FigureText,
    widths: tuple[int, int] = (WIDE, NARROW),
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
        return {"text": text, "images": [], "missing": sentence(str(error))}
    return {"text": text, "images": images, "missing": ""}


def sentence(message: str) -> str:
    """The message with one full stop."""
    return message.rstrip(".") + "."
