"""Published figures of presets, each with its setting (published_figures.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imbtune.config.yaml_files import read_yaml
from imbtune.registry import Value

PATH = Path(__file__).with_name("published_figures.yaml")


@dataclass(frozen=True)
class PublishedFigure:
    """A figure that others have published for a preset.

    Attributes:
        preset: the method.
        data: the settings of the data that it was measured on: name, profile, ratio, …
        percent: the figure.
        metric: what was measured.
        epoch: which epoch's model was measured.
        seeds: over how many seeds.
        decimals: of the figure, as its source prints it.
        training: network and epochs.
        title: the source. url: where it is.
    """

    preset: str
    data: Mapping[str, Value]
    percent: float
    metric: str
    epoch: str
    seeds: str
    decimals: int
    training: str
    title: str
    url: str

    def __str__(self) -> str:
        return f"{self.percent:.{self.decimals}f}"

    @property
    def origin(self) -> str:
        """Source and setting as one line, the same for all figures of one table."""
        return f"{self.title}: {self.metric}, {self.epoch}, {self.seeds}; {self.training}"


@functools.cache
def published_figures() -> tuple[PublishedFigure, ...]:
    """All figures of published_figures.yaml, in its order."""
    content = read_yaml(PATH)
    return tuple(
        PublishedFigure(
            preset, table["data"], percent, training=table["training"], **content["sources"][name]
        )
        for table in content["tables"]
        for name in (table["source"],)
        for preset, percent in table["figures"].items()
    )


def figures_for(settings: Mapping[str, Value], preset: str | None) -> list[PublishedFigure]:
    """The figures of a preset on data with these settings.

    Network, epochs and the choice of the epoch may differ: the figure says what they were.

    Args:
        settings: flat settings of a configuration.
        preset: None for a configuration that is no preset.
    """
    return [
        figure
        for figure in published_figures()
        if figure.preset == preset
        and settings["data"] == figure.data["name"]
        and all(settings.get(f"data.{k}") == v for k, v in figure.data.items() if k != "name")
    ]
