"""Charts as SVG and PNG, made by vl-convert: no browser, no network."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imbtune.report.charts.theme import DARK, MUTED, PAPER, WIDTH, Chart
from imbtune.report.sections import FigureText
from imbtune.report.study_data import NothingToDrawError

VERSION = "6.4"  # of Vega-Lite: that of Altair's schema
SCALE = 2  # pixels of a PNG per pixel of the chart
LETTER, FEWEST = 5.4, 40  # pixels of a letter of a key, and letters of a line at least
MOST_BYTES = 2_000_000  # of an SVG; a chart of more marks is written as PNG alone


@dataclass(frozen=True)
class Image:
    """A figure as files.

    Attributes:
        text: its heading and how to read it.
        svg: None where it has too many marks.
        png: with a white background.
        missing: why there is no figure; then both are None.
    """

    text: FigureText
    svg: str | None = None
    png: bytes | None = None
    missing: str = ""


def images(plots: object, texts: Sequence[FigureText]) -> Iterator[Image]:
    """Every figure of a study, in the order of the page.

    Args:
        plots: has a method of the name of each figure, which makes its chart.
        texts: the figures.
    """
    for text in texts:
        try:
            spec = with_key(getattr(plots, text.name)().to_dict(), text.key)
        except NothingToDrawError as error:
            yield Image(text, missing=str(error))
            continue
        svg = svg_of(spec)
        yield Image(text, svg if len(svg) <= MOST_BYTES else None, png_of(spec))


def with_key(spec: dict[str, Any], key: str) -> dict[str, Any]:
    """A chart's specification with what its marks mean in lines below it."""
    if not key:
        return spec
    width = spec.get("width")
    letters = int((width if isinstance(width, int) else WIDTH) / LETTER)
    title = {
        "text": textwrap.wrap(key, max(FEWEST, letters)),
        "orient": "bottom",
        "anchor": "start",
        "color": MUTED,
        "fontSize": 11,
        "fontWeight": "normal",
        "offset": 12,
    }
    return {**spec, "title": title}


def svg_of(spec: dict[str, Any]) -> str:
    """A chart's specification as SVG."""
    import vl_convert  # inside: it takes 0.2 s

    found: str = vl_convert.vegalite_to_svg(spec, vl_version=VERSION, allowed_base_urls=[])
    return found


def png_of(spec: dict[str, Any]) -> bytes:
    """A chart's specification as PNG on the page's light background."""
    import vl_convert

    solid = {**spec, "background": PAPER}
    found: bytes = vl_convert.vegalite_to_png(
        solid, vl_version=VERSION, scale=SCALE, allowed_base_urls=[]
    )
    return found


def inline_svg(chart: Chart, name: str, description: str) -> str:
    """A chart as an element of a page, whose colours are the variables of the page's style sheet.

    Args:
        name: unique in the page; the names inside the image begin with it.
        description: what a screen reader says.
    """
    spec = chart.properties(description=description).to_dict(validate=False)
    spec["background"] = "transparent"  # the page has its own
    svg = svg_of({**spec, "autosize": {"type": "fit-x", "contains": "padding"}})
    for colour in DARK:
        svg = svg.replace(f'"{colour}"', f'"var({variable(colour)})"')
    svg = re.sub(r'(id="|url\(#)((?:clip|gradient)[\w-]*)', rf"\1{name}-\2", svg)
    return svg.replace("<svg ", '<svg role="img" ', 1) if "role=" not in svg[:300] else svg


def variable(colour: str) -> str:
    """The name of a colour in the page's style sheet."""
    return f"--c-{colour.lstrip('#')}"


def style_variables() -> tuple[str, str]:
    """The colours as declarations of a style sheet: on a light and on a dark page."""
    light = " ".join(f"{variable(colour)}: {colour};" for colour in DARK)
    dark = " ".join(f"{variable(light)}: {dark};" for light, dark in DARK.items())
    return light, dark
