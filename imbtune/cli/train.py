"""`imbtune train`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from imbtune.cli.settings import make_console, parse_settings
from imbtune.config.plugins import PluginModule, load_plugins
from imbtune.config.slots import check_knob
from imbtune.config.train_config import TrainConfig, active, flatten, parse_yaml, read_yaml
from imbtune.errors import ConfigError
from imbtune.retrain import FinalRun, mean_and_std, train_final
from imbtune.storage import Store


@dataclass(frozen=True)
class TrainOptions:
    """The command line as given."""

    config: str | None
    preset: str | None
    space: str | None
    seeds: int
    epochs: int | None
    out: Path | None
    data: Path | None
    skip_corrupt: bool
    settings: list[str]


def train_command(options: TrainOptions) -> None:
    """Train, test once a seed, print mean ± standard deviation."""
    config, imports, provenance = read_config(options)
    out = options.out or _default_out(options)
    runs = train_final(
        config,
        options.seeds,
        out,
        options.data,
        provenance,
        say=functools.partial(print, flush=True),
        imports=imports,
        skip_corrupt=options.skip_corrupt,
    )
    make_console().print(_table(runs, config))
    print(f"Models, configuration and results are in {out}")


def read_config(
    options: TrainOptions,
) -> tuple[TrainConfig, tuple[PluginModule, ...], dict[str, Any]]:
    """The configuration asked for, its modules of the user's own, and where it comes from."""
    pinned = parse_settings(options.settings)
    if options.epochs is not None:
        pinned["epochs"] = options.epochs
    if options.preset:
        if options.config:
            raise ConfigError(f"{options.config} and --preset {options.preset}: give one of them")
        if not options.space:
            raise ConfigError(f"--preset {options.preset} needs --space: the data to train it on")
        config, imports, provenance = _preset_config(options.preset, options.space, pinned)
        _check_set(config, pinned)
        return config, imports, provenance
    if not options.config:
        raise ConfigError("nothing to train: give a configuration file, or --preset and --space")
    if options.space:
        raise ConfigError(f"--space {options.space} goes with --preset: a file names its own data")
    folder, content = _read(options.config)
    if not isinstance(content, dict):
        raise ConfigError(f"{options.config} holds no configuration: give a study's best.yaml")
    provenance = content.pop("provenance", {})
    try:
        imports = load_plugins(content.pop("imports", None), folder)
        given = flatten(content)
        TrainConfig.from_settings(given)
        if not isinstance(provenance, dict):
            raise ConfigError(f"provenance: {provenance!r} is not a mapping: leave it out")
    except ConfigError as error:
        raise ConfigError(f"{options.config}: {error}") from error
    config = TrainConfig.from_settings(active(given | pinned))
    _check_set(config, pinned)
    return config, imports, {"file": options.config, "set": pinned, **provenance}


def _check_set(config: TrainConfig, pinned: dict[str, Any]) -> None:
    """ConfigError for a knob of `--set` that the configuration's part does not have."""
    for key in pinned:
        slot, dot, name = key.partition(".")
        if dot:
            check_knob(slot, getattr(config, slot).name, name)


def _read(path: str) -> tuple[Store, Any]:
    """A configuration file, from this machine or a bucket, and the folder that it is in."""
    if "://" not in path:
        return Store(str(Path(path).parent)), read_yaml(Path(path))
    address, question, query = path.partition("?")
    parent, _, name = address.rpartition("/")
    folder = Store(parent + question + query)
    try:
        return folder, parse_yaml(path, folder.read(name).decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _preset_config(
    preset: str, space_name: str, pinned: dict[str, Any]
) -> tuple[TrainConfig, tuple[PluginModule, ...], dict[str, Any]]:
    from imbtune.space.space_file import load_space

    seed = pinned.get("seed", 0)
    space = load_space(space_name).pin({k: v for k, v in pinned.items() if k != "seed"})
    config = space.preset(preset).replace(seed=seed)
    return config, space.imports, {"preset": preset, "space": space.name, "set": pinned}


def _default_out(options: TrainOptions) -> Path:
    """Beside the configuration: `runs/NAME/best.yaml` trains into `runs/NAME/best/`."""
    if options.config and "://" in options.config:
        study = options.config.partition("?")[0].rsplit("/", 2)[1]
        return Path("runs") / f"{study}-best"
    if options.config:
        path = Path(options.config)
        return path.with_suffix("") if path.suffix else path.with_name(f"{path.name}-trained")
    return Path("runs") / f"{Path(options.space or '').stem}-{options.preset}"


def _table(runs: list[FinalRun], config: TrainConfig) -> Table:
    seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    table = Table(title=f"test set, last epoch, {seeds}")
    table.add_column("metric")
    table.add_column("mean ± std" if len(runs) > 1 else "value", justify="right")
    for metric, value in runs[0].figures.items():
        if value is not None:
            mean, std = mean_and_std(runs, metric)
            table.add_row(metric, f"{mean:.4f} ± {std:.4f}" if len(runs) > 1 else f"{mean:.4f}")
    return table
