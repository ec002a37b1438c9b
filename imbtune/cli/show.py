"""`imbtune show`: lists spaces, data sets, methods and knobs, as the registries have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from imbtune.cli.settings import make_console
from imbtune.config.slots import SLOTS
from imbtune.registry import DeclaredKnob, Part, Registry, describe_range
from imbtune.spaces.presets import PRESETS

if TYPE_CHECKING:
    from imbtune.spaces.search_space import SearchSpace


def show_command(topic: str, space: str | None) -> None:
    """Print one topic.

    Args:
        topic: spaces, datasets, methods or knobs.
        space: a space file whose plugins are listed too, or None.
    """
    from imbtune.spaces.space_file import list_spaces, load_space

    spaces = [load_space(space)] if space is not None else []
    tables = {"datasets": _datasets, "methods": _methods, "knobs": _knobs}
    console = make_console()
    if topic == "spaces":
        shipped = [load_space(name) for name in list_spaces() if name != space]
        console.print(_spaces(spaces + shipped))
        return
    for table in tables[topic]():
        console.print(table)


def _spaces(spaces: list[SearchSpace]) -> Table:
    table = _table("spaces", "name", "about", "epochs", "rungs", "knobs", "presets")
    for space in spaces:
        epochs = space.base().epochs
        rungs = " ".join(map(str, space.rungs.budgets(epochs)))
        presets, knobs = " ".join(space.presets()), str(len(space.knobs))
        table.add_row(space.name, space.about, str(epochs), rungs, knobs, presets)
    return table


def _datasets() -> list[Table]:
    registry = SLOTS["data"]
    return [_parts(registry, "datasets"), _shared(registry, "settings of every data set")]


def _methods() -> list[Table]:
    tables = []
    for slot, registry in SLOTS.items():
        if slot != "data":
            tables.append(_parts(registry, f"{slot}: {registry.help}"))
        product = "+".join(part.slot for part in registry.components)
        for part in registry.components:
            title = f"{slot}, {part.slot}: {part.help} (any combination {product} is a {slot})"
            tables.append(_parts(part, title))
    title = "presets: imbtune train --preset NAME --space SPACE"
    presets = _table(title, "name", "description", "source")
    for name, preset in PRESETS.items():
        presets.add_row(name, preset.help, preset.source)
    return [*tables, presets]


def _knobs() -> list[Table]:
    columns = ("knob", "default", "range", "search range", "part", "description", "source")
    table = _table("knobs", *columns)
    for slot, registry in SLOTS.items():
        for name in registry.knobs():
            for parameter, owners in _owners(registry, name).items():
                shared = name in registry.shared_knobs
                table.add_row(
                    f"{slot}.{name}",
                    str(parameter.default),
                    describe_range(parameter.knob),
                    _search_range(parameter),
                    "all" if shared else " ".join(entry.name for entry in owners),
                    parameter.knob.help,
                    parameter.knob.source or ("" if shared else owners[0].source),
                )
    return [table]


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


def _parts(registry: Registry, title: str) -> Table:
    table = _table(title, "name", "description", "knobs", "source")
    for entry in registry:
        own = [name for name in entry.knobs if name not in registry.shared_knobs]
        table.add_row(entry.name, entry.help, " ".join(own), entry.source)
    return table


def _shared(registry: Registry, title: str) -> Table:
    table = _table(title, "setting", "default", "range", "description", "source")
    for name, parameter in registry.shared_knobs.items():
        table.add_row(
            f"{registry.slot}.{name}",
            str(parameter.default),
            describe_range(parameter.knob),
            parameter.knob.help,
            parameter.knob.source,
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    return table
