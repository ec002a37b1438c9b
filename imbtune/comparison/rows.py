"""The rows of a comparison: presets and studies' winners, as complete configurations.

They are written to `comparison.yaml` when a comparison begins. A resumed comparison reads them from
there, so it trains the same configurations even where a preset or a study has changed since.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import yaml

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import load_plugins, merge_plugins
from imbtune.config.train_config import TrainConfig, active
from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ConfigError, StudyError, unknown
from imbtune.final_training.train_input import from_study
from imbtune.registry import Value
from imbtune.spaces.presets import PRESETS, defines_method
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store, join
from imbtune.study.files import check_purpose, read_study
from imbtune.study.request import SEARCH, SearchRequest

FILE = "comparison.yaml"
ALL, NONE = "all", "none"  # values of --presets besides names
WINNER_SUFFIX = "-winner"  # of the name of a winner's row


@dataclass(frozen=True)
class Row:
    """One configuration of a comparison.

    Attributes:
        name: of the preset, or of the study with `-winner`.
        preset: its name; None for a winner.
        study: folder or URI of the study that it has won; None for a preset.
        trial: its number in that study, if known.
        settings: the complete configuration; each run replaces the seed.
    """

    name: str
    preset: str | None
    study: str | None
    trial: int | None
    settings: Mapping[str, Value]

    def config(self, seed: int) -> TrainConfig:
        """The configuration of a run."""
        return TrainConfig.from_settings({**self.settings, "seed": seed})


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        rows: at least one.
        seeds: the seeds that every row is trained with.
        reference: the row that the others are tested against; None for the best one.
        imports: modules with the user's plugins.
    """

    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    reference: str | None = None
    imports: tuple[PluginModule, ...] = ()

    @property
    def runs(self) -> list[tuple[Row, int]]:
        """Every row with every seed. All rows have the first seed before any has the second."""
        return [(row, seed) for seed in self.seeds for row in self.rows]

    def yaml(self) -> str:
        """The content of `comparison.yaml`."""
        content = {
            "seeds": list(self.seeds),
            "reference": self.reference,
            "imports": [module.name for module in self.imports],
            "rows": [{**asdict(row), "settings": dict(row.settings)} for row in self.rows],
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def read_comparison(store: Store) -> Comparison:
    """Read `comparison.yaml`, and register the plugins that it names.

    Raises:
        StudyError: the file is missing or damaged.
    """
    path = join(store.path, FILE)
    try:
        content = parse_yaml(path, store.read(FILE))
        imports = load_plugins(content["imports"], store)
        rows = tuple(Row(**entry) for entry in content["rows"])
        seeds = tuple(int(seed) for seed in content["seeds"])
        for row in rows:
            row.config(seeds[0])
        return Comparison(rows, seeds, content["reference"], imports)
    except (ConfigError, OSError, AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
        raise StudyError(f"cannot read {path} ({e!r}): restore it from a backup") from e


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
