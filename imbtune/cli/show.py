"""`imbtune show`: what there is, read from the registries themselves."""

from __future__ import annotations

from rich.table import Table

from imbtune.cli.settings import make_console
from imbtune.methods.mixing import blends, label_rules, pairings
from imbtune.presets import PRESETS
from imbtune.registry import Entry, Parameter, Registry, describe_range
from imbtune.slots import SLOTS


def show_command(topic: str) -> None:
    """Print one topic."""
    console = make_console()
    for table in {
        "spaces": _spaces,
        "datasets": _datasets,
        "methods": _methods,
        "knobs": _knobs,
    }[topic]():
        console.print(table)


def _spaces() -> list[Table]:
    from imbtune.search.space_file import list_spaces, load_space

    table = _table("spaces", "name", "about", "epochs", "rungs", "knobs", "presets")
    for name in list_spaces():
        space = load_space(name)
        epochs = space.base().epochs
        rungs = " ".join(map(str, space.rungs.budgets(epochs)))
        table.add_row(
            name, space.about, str(epochs), rungs, str(len(space.knobs)), " ".join(space.presets())
        )
    return [table]


def _datasets() -> list[Table]:
    table = _table("datasets", "name", "what", "source")
    for entry in SLOTS["data"]:
        table.add_row(entry.name, entry.help, entry.source)
    return [table, _shared(SLOTS["data"], "settings of every data set")]


def _methods() -> list[Table]:
    tables = []
    for slot, registry in SLOTS.items():
        if slot != "data":
            tables.append(_parts(registry, f"{slot}: {registry.help}"))
        if slot == "mix":
            for part in (pairings, blends, label_rules):
                title = f"mix, {part.slot}: {part.help} (any pairing+blend+label is a mix)"
                tables.append(_parts(part, title))
    presets = _table("presets: imbtune train --preset NAME --space SPACE", "name", "what", "source")
    for name, preset in PRESETS.items():
        presets.add_row(name, preset.help, preset.source)
    return [*tables, presets]


def _knobs() -> list[Table]:
    table = _table("knobs", "knob", "default", "range", "search range", "of", "what", "source")
    for slot, registry in SLOTS.items():
        for name in registry.parameters():
            for parameter, owners in _owners(registry, name).items():
                shared = name in registry.shared_parameters
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


def _owners(registry: Registry, name: str) -> dict[Parameter, list[Entry]]:
    """The parts that have the knob, by what it is for them: its default and ranges may differ."""
    found: dict[Parameter, list[Entry]] = {}
    for entry in registry:
        if name in entry.parameters:
            found.setdefault(entry.parameters[name], []).append(entry)
    return found


def _search_range(parameter: Parameter) -> str:
    knob = parameter.knob
    if not knob.search:
        return ""
    scale = {"linear": "", "log": " log", "complement": " log in 1-x"}[knob.scale]
    return f"{knob.search[0]:g} to {knob.search[1]:g}{scale}"


def _parts(registry: Registry, title: str) -> Table:
    table = _table(title, "name", "what", "knobs", "source")
    for entry in registry:
        own = [name for name in entry.parameters if name not in registry.shared_parameters]
        table.add_row(entry.name, entry.help, " ".join(own), entry.source)
    return table


def _shared(registry: Registry, title: str) -> Table:
    table = _table(title, "setting", "default", "range", "what", "source")
    for name, parameter in registry.shared_parameters.items():
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
