"""`imbtune show`: lists spaces, data sets, methods, knobs, …, as the registries have them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from imbtune.cli.settings import make_console, with_trust
from imbtune.config.slots import SLOTS
from imbtune.metrics.metric import metrics
from imbtune.metrics.metric_registry import GROUPS, LOGITS, LOWER
from imbtune.metrics.number_text import as_text
from imbtune.progress import line_width
from imbtune.registry import DeclaredKnob, Part, Registry, describe_range
from imbtune.spaces.presets import PRESETS

if TYPE_CHECKING:
    from imbtune.spaces.search_space import SearchSpace

PROSE = 24  # columns that a column of sentences needs to be read well
# Values of an objective's knobs that have no default, as a user gives them
EXAMPLES = {"of": "CLASS", "costs": "{CLASS: {PREDICTED: 20}}"}


@dataclass
class Listing:
    """Rows with a heading for each column; empty cells are left out where it is no table."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def width(self) -> int:
        """Columns of a terminal that a table needs so that no word is cut."""
        columns = [[*column] for column in zip(self.headings, *self.rows, strict=True)]
        return sum(self._column(cells, i) for i, cells in enumerate(columns)) + 3 * len(columns) + 1

    def _column(self, cells: Sequence[str], index: int) -> int:
        if index == 0:
            return max(map(cell_len, cells))
        words = [word for cell in cells for word in cell.split()]
        return max(min(PROSE, max(map(cell_len, cells))), *map(cell_len, words))

    def print(self, console: Console) -> None:
        """Print a table; on a terminal too narrow for it, each row as a paragraph."""
        if self.width() > console.width:
            if line_width():
                self._print_paragraphs(console)
                return
            console = make_console(self.width())  # a file has lines of any length
        table = Table(title=self.title, title_justify="left")
        for i, heading in enumerate(self.headings):
            table.add_column(heading, no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def _print_paragraphs(self, console: Console) -> None:
        console.print(_wrapped(self.title, console, ""), style="bold")
        for name, *cells in self.rows:
            console.print(f"  {name}", style="bold", soft_wrap=True)
            for heading, cell in zip(self.headings[1:], cells, strict=True):
                if cell:
                    text = _wrapped(f"{heading}: {cell}", console, "    ")
                    console.print(text, soft_wrap=True)
        console.print()


def show_command(topic: str, space: str | None, trust: bool = False) -> None:
    """Print one topic.

    Args:
        topic: spaces, datasets, methods, knobs, presets, metrics (all of them, defined) or
            objectives (what `--objective` takes, with knobs).
        space: a space file whose plugins are listed too, or None.
        trust: whether its plugins may run if this user has not run them before.
    """
    from imbtune.spaces.space_file import list_spaces, load_space

    spaces = []
    if space is not None:
        spaces = [with_trust(lambda: load_space(space, trusted=False), trust)]
    console = make_console()
    if topic == "spaces":
        shipped = [load_space(name) for name in list_spaces() if name != space]
        _spaces(spaces + shipped).print(console)
        return
    listings = {
        "datasets": _datasets,
        "methods": _methods,
        "knobs": _knobs,
        "presets": _presets,
        "metrics": _metrics,
        "objectives": _objectives,
    }
    for listing in listings[topic]():
        listing.print(console)


def _spaces(spaces: list[SearchSpace]) -> Listing:
    found = Listing("spaces", ("name", "about", "epochs", "rungs", "knobs", "presets"))
    for space in spaces:
        epochs = space.base().epochs
        rungs = " ".join(map(str, space.rungs.budgets(epochs)))
        presets, knobs = " ".join(space.presets()), str(len(space.knobs))
        found.rows.append((space.name, space.about, str(epochs), rungs, knobs, presets))
    return found


def _datasets() -> list[Listing]:
    registry = SLOTS["data"]
    return [_parts(registry, "datasets"), _shared(registry, "settings of every data set")]


def _methods() -> list[Listing]:
    found = []
    for slot, registry in SLOTS.items():
        if slot != "data":
            found.append(_parts(registry, f"{slot}: {registry.help}"))
        product = "+".join(part.slot for part in registry.components)
        for part in registry.components:
            title = f"{slot}, {part.slot}: {part.help} (any combination {product} is a {slot})"
            found.append(_parts(part, title))
    return [*found, *_presets()]


def _presets() -> list[Listing]:
    title = "presets: imbtune train --preset NAME --space SPACE"
    rows = [(name, preset.about, preset.source) for name, preset in PRESETS.items()]
    return [Listing(title, ("name", "description", "source"), [*rows])]


def _metrics() -> list[Listing]:
    columns = ("name", "what it is", "best", "range", "knobs", "source")
    most = Listing("metrics; each can be an objective (see imbtune show objectives)", columns)
    others = Listing("other metrics, no objectives (empty where there is no such class)", columns)
    for part in metrics:
        traits = metrics.traits(part.name)
        knobs = (
            f"{name}={knob.default}" if knob.default else name for name, knob in part.knobs.items()
        )
        low = as_text(traits.low, "g")
        span = f"from {low}" if math.isinf(traits.high) else f"{low} to {traits.high:g}"
        row = (part.name, part.help, traits.better, span, " ".join(knobs), part.source)
        (others if part.name in GROUPS else most).rows.append(row)
    return [most, others]


def _objectives() -> list[Listing]:
    """What `--objective` takes: how each is given and scored, and what its knobs mean."""
    title = "objectives: imbtune search SPACE --objective …, or objective: … in a space"
    found = Listing(title, ("name", "with its knobs", "score", "computed"))
    knobs = Listing("knobs of objectives", ("objective", "knob", "default", "values"))
    for part in (part for part in metrics if part.name not in GROUPS):
        pairs = {name: knob.default or EXAMPLES.get(name) for name, knob in part.knobs.items()}
        setting = ", ".join(f"{name}: {value}" for name, value in pairs.items() if value)
        given = f"'{{name: {part.name}, {setting}}}'" if setting else ""
        traits = metrics.traits(part.name)
        score = "its negative" if traits.better == LOWER else "its value"
        when = "at rungs and in finals" if traits.needs == LOGITS else "after every epoch"
        found.rows.append((part.name, given, score, when))
        for name, knob in part.knobs.items():
            values = describe_range(knob.knob)
            text = values if values == knob.knob.help else f"{knob.knob.help}, {values}"
            knobs.rows.append((part.name, name, str(knob.default), text))
    return [found, knobs]


def _knobs() -> list[Listing]:
    columns = ("knob", "default", "range", "search range", "part", "description", "source")
    found = Listing("knobs", columns)
    for slot, registry in SLOTS.items():
        for name in registry.knobs():
            for parameter, owners in _owners(registry, name).items():
                shared = registry.shared_knobs.get(name) == parameter
                found.rows.append(
                    (
                        f"{slot}.{name}",
                        str(parameter.default),
                        describe_range(parameter.knob),
                        _search_range(parameter),
                        "all" if shared else " ".join(entry.name for entry in owners),
                        parameter.knob.help,
                        parameter.knob.source or ("" if shared else owners[0].source),
                    )
                )
    return [found]


def _owners(registry: Registry, name: str) -> dict[DeclaredKnob, list[Part]]:
    """The parts that have a knob, grouped by its default and ranges, which may differ by part."""
    found: dict[DeclaredKnob, list[Part]] = {}
    for entry in registry.parts_with(name):
        found.setdefault(entry.knobs[name], []).append(entry)
    return found


def _search_range(parameter: DeclaredKnob) -> str:
    knob = parameter.knob
    if not knob.search:
        return ""
    scale = {"linear": "", "log": " log", "complement": " log in 1-x"}[knob.scale]
    return f"{knob.search[0]:g} to {knob.search[1]:g}{scale}"


def _parts(registry: Registry, title: str) -> Listing:
    found = Listing(title, ("name", "description", "knobs", "source"))
    for entry in registry:
        own = [name for name in entry.knobs if name not in registry.shared_knobs]
        found.rows.append((entry.name, entry.help, " ".join(own), entry.source))
    return found


def _shared(registry: Registry, title: str) -> Listing:
    found = Listing(title, ("setting", "default", "range", "description", "source"))
    for name, parameter in registry.shared_knobs.items():
        found.rows.append(
            (
                f"{registry.slot}.{name}",
                str(parameter.default),
                describe_range(parameter.knob),
                parameter.knob.help,
                parameter.knob.source,
            )
        )
    return found


def _wrapped(text: str, console: Console, indent: str) -> str:
    """The text in lines that the console holds; words longer than a line are not cut."""
    return textwrap.fill(
        text,
        console.width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
