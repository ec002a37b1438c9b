"""The rows of a comparison: presets and studies' winners, as complete configurations.

They are written to `comparison.yaml` when a comparison begins. A resumed comparison reads them from
there, so it trains the same configurations even where a preset or a study has changed since.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import load_plugins, merge_plugins
from imbtune.config.train_config import TrainConfig, active
from imbtune.errors import ConfigError, unknown
from imbtune.final_training.train_input import from_study
from imbtune.spaces.presets import PRESETS, defines_method
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.study.files import check_purpose, read_study
from imbtune.study.request import SEARCH, SearchRequest
from imbtune.study.results.comparison_record import (
    Comparison,
    Row,
    damaged,
    recorded_comparison,
)

ALL, NONE = "all", "none"  # values of --presets besides names
WINNER_SUFFIX = "-winner"  # of the name of a winner's row


def read_comparison(store: Store) -> Comparison:
    """Read `comparison.yaml`, and register the plugins that it names.

    Raises:
        StudyError: the file is missing or damaged.
    """
    found, imports = recorded_comparison(store)
    try:
        plugins = load_plugins(imports, store)
        for row in found.rows:
            row.config(found.seeds[0])
    except (ConfigError, OSError, AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
        raise damaged(store, e) from e
    return replace(found, imports=plugins)


def make_comparison(
    space: SearchSpace,
    presets: Sequence[str] | None,
    studies: Sequence[str],
    seeds: Sequence[int],
    reference: str | None,
) -> Comparison:
    """Find the configurations of a comparison, and check that they can be compared.

    Args:
        space: its data, its fixed settings and those of `--set` apply to every preset.
        presets: their names; `[ALL]` for all of imbtune, `[NONE]` for none; None for those that a
            search of the space starts with.
        studies: folders or URIs of studies whose winners are compared too.
        seeds: at least one.
        reference: name of a row, or None.

    Raises:
        ImbtuneError: an unknown preset or row, a study without a winner or with other data, or a
            setting that contradicts a row.
    """
    rows = [_preset_row(space, name) for name in _chosen(space, presets)]
    imports = space.imports
    for path in studies:
        row, plugins = _winner_row(space, path)
        rows.append(row)
        imports = merge_plugins(imports, plugins)
    names = [row.name for row in rows]
    if not rows:
        raise ConfigError(
            "nothing to compare, neither a preset nor a study: give --presets all, names of "
            "presets, or --study"
        )
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"'{name}' is compared twice: give it once")
    if reference is not None and reference not in names:
        raise unknown("row for --reference", reference, names)
    return Comparison(tuple(rows), tuple(seeds), reference, imports)


def _chosen(space: SearchSpace, presets: Sequence[str] | None) -> list[str]:
    """The names of the presets. Those that `--set` contradicts are refused where they were named,
    and left out otherwise."""
    if presets is None:
        return list(space.presets())
    for word in (ALL, NONE):
        if word in presets and len(presets) > 1:
            raise ConfigError(f"--presets {','.join(presets)}: give '{word}' alone")
    if list(presets) == [NONE]:
        return []
    if list(presets) == [ALL]:
        return [name for name in PRESETS if not space.contradiction(name)]
    for name in presets:
        if name not in PRESETS:
            raise unknown("preset", name, [*PRESETS, ALL, NONE])
        if key := space.contradiction(name):
            raise ConfigError(
                f"--set {key}={space.pinned[key]} contradicts the preset '{name}': leave one out"
            )
    return list(presets)


def _preset_row(space: SearchSpace, name: str) -> Row:
    return Row(name, name, None, None, space.preset(name).flat())


def _winner_row(space: SearchSpace, path: str) -> tuple[Row, tuple[PluginModule, ...]]:
    """The winner of a study, and its plugins.

    Raises:
        ImbtuneError: there is no study, it has no winner, or it has other data than the space.
    """
    request, _ = read_study(path)
    check_purpose(request, SEARCH)
    given = from_study(request.path, {})
    own = given.config.flat()
    for key, value in space.pinned.items():
        if defines_method(key) and own.get(key, value) != value:
            raise ConfigError(
                f"--set {key}={value} contradicts the winner of {path}, which has "
                f"{key}={own[key]}: leave one out"
            )
    config = TrainConfig.from_settings(active({**own, **space.pinned}))
    _check_same_data(config, space, path)
    winner = given.provenance.get("winner")
    trial = winner.get("trial") if isinstance(winner, dict) else None
    row = Row(_row_name(request), None, path, trial, config.flat())
    return row, given.imports


def _row_name(request: SearchRequest) -> str:
    """A name that needs no quotes in a shell, whatever a user has renamed the folder to."""
    return re.sub(r"[^\w.-]", "_", request.name) + WINNER_SUFFIX


def _check_same_data(config: TrainConfig, space: SearchSpace, path: str) -> None:
    """Raise ConfigError if a winner is for other images than the space's."""
    there, here = config.flat(), space.base().flat()
    for key in {**here, **there}:
        if key.partition(".")[0] == "data" and here.get(key) != there.get(key):
            raise ConfigError(
                f"--study {path} has {key}={there.get(key)}, the space {space.name} has "
                f"{here.get(key)}: compare it in a space with its data"
            )
