"""Finds the configuration of a final training: from a file, a trial, a preset or Python."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import load_plugins, loaded_plugins, plugin_parts
from imbtune.config.settings_record import recorded_settings
from imbtune.config.slots import check_knob
from imbtune.config.train_config import TrainConfig, active, check_given_once, flatten
from imbtune.config.yaml_files import parse_yaml, read_yaml
from imbtune.data.load import reads_files
from imbtune.errors import ConfigError, DataError
from imbtune.final_training.origin import SEARCHED
from imbtune.inference.evaluating.split_remedy import USER_DATA
from imbtune.inference.model_folder import CONFIG, is_model_folder
from imbtune.metrics.metric import Metric, objectives_of
from imbtune.paths import path_or_uri
from imbtune.spaces.presets import METHOD_SLOTS, defines_method
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import OBJECTIVE, list_spaces, load_space
from imbtune.storage import Store, join
from imbtune.study.files import FILE, read_study
from imbtune.study.view import Study, Trial

Settings = Mapping[str, Any]

ERM = "erm"  # the preset of plain cross-entropy
CHOICES = {"winner", "scores"}  # in the provenance of best.yaml, and of a file of the front
OF_SPACES = {"like", "train", "presets", "knobs"}  # keys of a search space alone
OWN = {*METHOD_SLOTS, "optimizer", "schedule"}  # slots in which a baseline keeps its own settings
SAME = ("data", "epochs", "seed")  # of a baseline as of the winner


@dataclass(frozen=True)
class TrainInput:
    """A configuration to train, and what belongs to it.

    Attributes:
        config: the complete configuration.
        imports: modules with the user's plugins that it uses.
        provenance: where the configuration comes from, for `metrics.json`.
        out: folder for the results, unless the user gives another one.
        study: folder or URI of the study that it comes from, or None.
    """

    config: TrainConfig
    imports: tuple[PluginModule, ...]
    provenance: dict[str, Any]
    out: Path
    study: str | None = None


def from_path(path: str, settings: Settings) -> TrainInput:
    """A configuration file, or the winner of a study that is given by its folder or URI.

    Args:
        path: of the file or the study.
        settings: replace those of the file.

    Raises:
        ConfigError: it is neither.
    """
    store = Store(path)
    if store.exists(FILE):
        return from_study(path, settings)
    if store.local and is_model_folder(store) and (store.local / CONFIG).is_file():
        raise ConfigError(
            f"{path} is a model, and trained already: to train its configuration again, give "
            f"{store.local / CONFIG} --out FOLDER"
        )
    if store.local and store.local.is_dir():
        raise ConfigError(
            f"{path} is a folder without a {FILE}: give a study's folder, or a configuration file"
        )
    if store.local and not store.local.exists() and path in list_spaces():
        raise _is_space(path)
    return from_file(path, settings)


def data_of_study(given: TrainInput) -> tuple[Path | None, bool]:
    """The data folder or file with which the study of a configuration was searched, and whether it
    left corrupt images out.

    None where $IMBTUNE_DATA names another one, the study is gone, has other data or recorded none,
    the data set reads no files, or it can be downloaded and what was recorded is not there.

    Raises:
        DataError: what it recorded is not there.
    """
    if os.environ.get("IMBTUNE_DATA"):
        return None, False
    if given.study is None or not Store(given.study).exists(FILE):
        return None, False
    if not reads_files(given.config.data.name):  # earlier versions recorded a folder for these, too
        return None, False
    info = Study(given.study).info
    searched = info.get("space", {}).get("fixed", {}).get("data", {}).get("name")
    request = info.get("request", {})
    folder = request.get("data")
    if searched != given.config.data.name or not folder:
        return None, False
    if not Path(folder).exists():
        if given.config.data.part.is_builtin and searched not in USER_DATA:
            return None, False
        raise DataError(
            f"the search of {given.study} found its images in {folder}, which is not there now: "
            "give --data with the place where they are"
        )
    return Path(folder), request.get("skip_corrupt") is True


def from_study(study: str, settings: Settings) -> TrainInput:
    """The best.yaml of a study.

    Args:
        study: its folder or URI.
        settings: replace those of the winner.

    Raises:
        ConfigError: the study has none.
    """
    if not Store(study).exists("best.yaml"):
        why = Study(study).why_no_best()
        raise ConfigError(f"{study} has no best.yaml, because {why}: give a study with a winner")
    return from_file(join(study, "best.yaml"), settings)


def from_file(path: str, settings: Settings) -> TrainInput:
    """A configuration file, such as a study's best.yaml.

    Args:
        path: of the file, or its URI.
        settings: replace those of the file.

    Raises:
        ConfigError: there is no such file, or it is not a configuration.
    """
    folder, content = _read(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a configuration: give a study's best.yaml")
    if OF_SPACES & content.keys():
        raise _is_space(path)
    provenance = content.pop("provenance", {})
    try:
        imports = load_plugins(content.pop("imports", None), folder)
        check_given_once(content)
        own = flatten(content)
        TrainConfig.from_settings(own)
        if not isinstance(provenance, dict):
            raise ConfigError(f"provenance: {provenance!r} is not a mapping: remove it")
        objectives_of(provenance)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    config = _with_settings(own, settings)
    study = str(provenance["study"]) if "study" in provenance else None
    if folder.exists(FILE):  # it is where the file is, also if it was moved or renamed
        study = folder.path
    if study is not None:  # refused with a key in it, as earlier versions recorded it
        provenance["study"] = study = path_or_uri(f"{path}: provenance: study", study)
    origin = {"file": path, "set": dict(settings), **provenance}
    if CHOICES & provenance.keys():
        origin |= _since_choice(own, config, settings, recorded_settings(provenance))
    else:
        origin |= _changes(own, config, settings)
    return TrainInput(config, imports, origin, default_out(path), study)


def from_trial(trial: Trial, settings: Settings) -> TrainInput:
    """A trial's configuration with `settings` and seed 0: its own is partly why it was chosen."""
    folder = Store(trial.study)
    space = parse_yaml("space.yaml", folder.read("space.yaml"))
    imports = load_plugins(space.get("imports"), folder)
    config = _with_settings({**trial.settings, "seed": 0}, settings)
    best = Study(trial.study).best_provenance()
    if best and best["winner"]["trial"] == trial.number:
        file = join(trial.study, "best.yaml")  # not read: it may have been edited
        chosen = TrainConfig.from_settings(active(trial.settings)).flat()
        changes = _since_choice(trial.settings, config, settings, chosen)
        provenance = {"set": dict(settings), **best, "study": trial.study, **changes}
        return TrainInput(config, imports, provenance, default_out(file), trial.study)
    provenance = {"study": trial.study, "trial": trial.number, "set": dict(settings)}
    provenance |= _changes(trial.settings, config, settings)
    provenance |= {key: space[key] for key in OBJECTIVE if key in space}
    out = _study_folder(trial.study) / f"trial-{trial.number}"
    return TrainInput(config, imports, provenance, out, trial.study)


def from_preset(preset: str, space: str | Path | SearchSpace, settings: Settings) -> TrainInput:
    """The configuration of a preset, with the data and fixed settings of a space.

    The provenance lists as `changed` what is then not as the preset's paper has it.

    Args:
        settings: replace those of the preset and the space.
    """
    loaded = space
    if not isinstance(loaded, SearchSpace):
        loaded = load_space(loaded)
    pinned = loaded.pin({k: v for k, v in settings.items() if k != "seed"})
    config = pinned.preset(preset).replace(seed=settings.get("seed", 0))
    check_has_knobs(config, settings)
    provenance: dict[str, Any] = {"preset": preset, "space": pinned.name, "set": dict(settings)}
    provenance["objectives"] = [metric.setting() for metric in pinned.objectives]
    own, now = loaded.preset(preset).flat(), config.flat()
    if changed := [k for k in settings if defines_method(k) and now.get(k) != own.get(k)]:
        provenance["changed"] = [f"{key}={settings[key]}" for key in changed]
    return TrainInput(config, pinned.imports, provenance, Path("runs") / f"{loaded.name}-{preset}")


def from_config(config: TrainConfig, settings: Settings) -> TrainInput:
    """A configuration made in Python.

    Where it has parts of the user's, all modules that are loaded in this process go with it.

    Args:
        settings: replace its own.
    """
    changed = _with_settings(config.flat(), settings)
    imports = loaded_plugins() if plugin_parts(changed.flat().values()) else ()
    provenance = {"set": dict(settings), **_changes(config.flat(), changed, settings)}
    return TrainInput(changed, imports, provenance, Path("runs/trained"))


def baselines_of(given: TrainInput, settings: Settings) -> dict[str, TrainInput]:
    """The best preset of a configuration's study and `erm`, on the same data, by their names.

    A preset that is the configuration itself is left out. The results go into folders inside those
    of the configuration.

    Args:
        given: the configuration.
        settings: of the user; those that do not belong to a method are those of the presets too.

    Raises:
        ConfigError: the configuration does not come from a study.
        StudyError: its study is missing or damaged.
    """
    if given.study is None:
        raise ConfigError(
            "--baselines trains the best preset of a study: give the study's folder, such as "
            "runs/NAME, or its best.yaml"
        )
    space = read_study(given.study)[0].space
    best = (Study(given.study).best_provenance() or {}).get("best_preset")
    own = {key: v for key, v in settings.items() if key.partition(".")[0] not in OWN}
    own |= {k: v for k, v in given.config.flat().items() if k.partition(".")[0] in SAME}
    found = {}
    for name in dict.fromkeys([*([best["preset"]] if best else []), ERM]):
        config = _with_settings(space.preset(name).flat(), own)
        if config != given.config:
            provenance = {"preset": name, "study": given.study, "set": own}
            provenance |= {k: v for k, v in given.provenance.items() if k in OBJECTIVE}
            found[name] = TrainInput(config, given.imports, provenance, given.out / name)
    return found


def check_has_knobs(config: TrainConfig, settings: Settings) -> None:
    """Raise ConfigError if `settings` has a knob that the configuration's parts do not have."""
    for key in settings:
        slot, dot, name = key.partition(".")
        if dot:
            check_knob(slot, getattr(config, slot).name, name)


def with_out(given: TrainInput, out: str | Path | None) -> TrainInput:
    """The same input with another folder for the results; unchanged if `out` is None."""
    return given if out is None else replace(given, out=Path(out))


def with_objectives(given: TrainInput, objectives: Sequence[Metric]) -> TrainInput:
    """The same input with other objectives than those of its study or space."""
    others = {key: value for key, value in given.provenance.items() if key not in OBJECTIVE}
    others[SEARCHED] = [metric.setting() for metric in objectives_of(given.provenance)]
    settings = [metric.setting() for metric in objectives]
    return replace(given, provenance={**others, "objectives": settings})


def _changes(own: Settings, config: TrainConfig, settings: Settings) -> dict[str, list[str]]:
    """What the user's settings changed of a configuration, but for its seed, as `changed`."""
    before, now = TrainConfig.from_settings(active(own)).flat(), config.flat()
    changed = [k for k in settings if k != "seed" and now.get(k) != before.get(k)]
    return {"changed": [f"{key}={settings[key]}" for key in changed]} if changed else {}


def _since_choice(
    own: Settings, config: TrainConfig, given: Settings, recorded: Settings | None
) -> Settings:
    """What is not as the search chose it, but for the seed: edited in its file, or `given`.

    Knobs of a part that has replaced another one are listed where the file or the user has them.
    `recorded` are the settings that the search chose; None where they are not known.
    """
    if recorded is None:
        return {"unrecorded": True, **_changes(own, config, given)}
    written = {*own, *recorded, *given} - {"seed"}
    now = config.flat()
    changed = [f"{k}={v}" for k, v in now.items() if k in written and v != recorded.get(k)]
    return {"changed": changed} if changed else {}


def _with_settings(own: Settings, settings: Settings) -> TrainConfig:
    config = TrainConfig.from_settings(active({**own, **settings}))
    check_has_knobs(config, settings)
    return config


def _read(path: str) -> tuple[Store, Any]:
    """The folder and the content of a configuration file, local or in a bucket."""
    if "://" not in path:
        return Store(str(Path(path).parent)), read_yaml(Path(path))
    address, question, query = path.partition("?")
    parent, _, name = address.rpartition("/")
    folder = Store(parent + question + query)
    try:
        return folder, parse_yaml(path, folder.read(name))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error


def _is_space(space: str) -> ConfigError:
    return ConfigError(
        f"{space} is a search space: give the folder of a search of it, or train one of its "
        f"presets with --preset NAME --space {shlex.quote(space)}"
    )


def default_out(path: str) -> Path:
    """The folder for results of a configuration file, unless the user gives another one.

    It is `runs/NAME/best` for `runs/NAME/best.yaml`, also where that is in a bucket.
    """
    if "://" in path:
        return Path("runs") / f"{path.partition('?')[0].rsplit('/', 2)[1]}-best"
    file = Path(path)
    return file.with_suffix("") if file.suffix else file.with_name(f"{file.name}-trained")


def _study_folder(study: str) -> Path:
    """The study's folder; for a study in a bucket, a local folder `runs/NAME`."""
    if "://" in study:
        return Path("runs") / study.partition("?")[0].rstrip("/").rsplit("/", 1)[1]
    return Path(study)
