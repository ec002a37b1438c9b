"""Reads search space files: a data set, fixed settings, and the knobs to search.

    about: Long-tailed CIFAR-10
    imports: [my_losses]                      # modules with your plugins
    data: {name: cifar10, profile: exp, ratio: 100}
    train: {model: resnet32, epochs: 200}     # fixed; presets take them, but for their method
    objective: balanced_accuracy              # or {name: f_beta, beta: 2, of: fraud}; or several:
                                              # objectives: [balanced_accuracy, worst_class]
    rungs: {eta: 3, count: 3}
    late_variants: 4                          # trials per trunk, with different cool-down settings
    presets: [erm, drw, mamix_drw]            # the first trials; default: all inside the space
    knobs:
      mix: [none, mixup, mamix]               # a list of choices
      mix.omega: {low: 0, high: 1}            # a range; `scale: log` or `complement`
      mix.alpha:                              # no value: the knob's own search range

A knob is suggested only where it acts: `mix.omega` only if the chosen mixing method has an ω.

`like: cifar10-lt` inherits from another space, given by name or by a path relative to this file: a
field that this file has replaces the inherited one; `train` and `knobs` are merged entry by entry.
Inherited presets that are outside the new space are left out; those that this file lists itself
must be inside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from imbtune.config.cooldown_only import can_be_cooldown_only
from imbtune.config.defaults import DEFAULTS
from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import load_plugins, merge_plugins, with_imports
from imbtune.config.slots import SLOTS, check_knob
from imbtune.config.train_config import TrainConfig, check_given_once, flatten
from imbtune.config.yaml_files import read_yaml
from imbtune.credentials import CredentialsError, check_no_credentials
from imbtune.errors import ConfigError, shown, unknown
from imbtune.limits import ABOUT, CHOICES, ETA, LATE_VARIANTS, RUNGS
from imbtune.metrics.metric import Metric, objective_from, objectives_from
from imbtune.paths import local_path
from imbtune.spaces.knob_entries import parse_knob
from imbtune.spaces.search_space import Rungs, SearchSpace, check_setting
from imbtune.spaces.searched_knob import SearchedKnob
from imbtune.storage import Store

FIELDS = (
    "like",
    "about",
    "imports",
    "data",
    "train",
    "objective",
    "objectives",
    "rungs",
    "late_variants",
    "presets",
    "knobs",
)
STUDY = "study.yaml"  # the file that makes a folder a study
OBJECTIVE = ("objective", "objectives")  # a space has at most one of them
RESOLVED = ("like", "imports")  # fields that are replaced when a file is resolved


def list_spaces() -> dict[str, Path]:
    """The spaces that ship with imbtune, by name."""
    package = Path(__file__).resolve().parents[1]
    folder = package / "search_spaces"  # in an installed wheel; in a checkout, at its top level
    folder = folder if folder.is_dir() else package.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str | Path, *, trusted: bool = True) -> SearchSpace:
    """Load a space, and run the modules in its `imports`.

    Args:
        name_or_path: the name of a space that ships with imbtune, or the path of a YAML file.
        trusted: whether they run even if this user has not run them before; not those in the
            folder of a study, which somebody else may have made.

    Raises:
        ConfigError: there is no such space, or it has an invalid field, setting or knob.
        UntrustedError: a module may not run.
    """
    path = _find(local_path("the space", name_or_path), Path())
    content = read_yaml(path)
    try:
        return parse_space(path.stem, content, path.parent, trusted=trusted)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def parse_space(
    name: str,
    content: object,
    folder: Path = Path(),
    modules: Store | None = None,
    *,
    trusted: bool = True,
) -> SearchSpace:
    """Make a space from the content of its file.

    Args:
        name: of the space.
        folder: the file's folder.
        modules: of a study's space, where the modules of its `imports` are; None for `folder`.
        trusted: as in :func:`load_space`.

    Raises:
        ConfigError: an invalid field, setting or knob.
        UntrustedError: a module may not run.
    """
    has_own_presets = isinstance(content, Mapping) and "presets" in content
    content, imports = _resolve(content, folder, (), modules, trusted)
    fixed = flatten({"data": content.get("data") or {}, **_mapping(content, "train")})
    about = content.get("about") or ""
    if not isinstance(about, str) or len(about) > ABOUT:
        raise ConfigError(f"about: {shown(about)}: give a line of text, up to {ABOUT} characters")
    knobs = _mapping(content, "knobs")
    chosen = {slot: fixed.get(slot, DEFAULTS[slot]) for slot in DEFAULTS if slot not in knobs}
    ranges = [parse_knob(str(key), spec, chosen, knobs) for key, spec in knobs.items()]
    presets = content.get("presets")
    if presets is not None and not (
        isinstance(presets, list) and all(isinstance(name, str) for name in presets)
    ):
        raise ConfigError(
            f"presets: {shown(presets)}: give a list of preset names, such as [erm, drw]"
        )
    if twice := [name for name, count in Counter(presets or ()).items() if count > 1]:
        raise ConfigError(f"presets: '{twice[0]}' is listed twice: list it once")
    if "seed" in fixed:
        raise ConfigError(
            f"train: seed={fixed['seed']} cannot be fixed in a space: leave it out, and give --seed"
        )
    space = SearchSpace(
        name=name,
        about=" ".join(about.split()),
        fixed={key: check_setting(key, value) for key, value in fixed.items()},
        knobs=tuple(sorted(ranges, key=_order)),
        objectives=_parse_objectives(content),
        rungs=_parse_rungs(_mapping(content, "rungs")),
        preset_names=None if presets is None else tuple(presets),
        imports=imports,
        late_variants=_parse_late_variants(content.get("late_variants", 1), ranges),
        source=with_imports({k: v for k, v in content.items() if k not in RESOLVED}, imports),
    )
    _check_fixed_slots(space, chosen)
    space.base()
    if has_own_presets and modules is None:
        space.presets()  # raises for one that is outside
        return space
    return _without_presets_outside(space)


def _find(name_or_path: str, folder: Path) -> Path:
    """The file of a space: by the name of a shipped one, or by its path relative to `folder`."""
    shipped = list_spaces()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = folder / name_or_path
    if path.is_dir():
        raise ConfigError(f"the space {path} is a folder: give the path of a YAML file")
    if not path.is_file():
        if path.suffix or path.name != name_or_path:
            raise ConfigError(
                f"there is no file {path}: give the path of a YAML file, or one of the spaces "
                f"{', '.join(shipped)}"
            )
        raise ConfigError(
            f"{unknown('space', name_or_path, shipped)} (or give the path of a YAML file)"
        )
    return path


def _resolve(
    content: object,
    folder: Path,
    seen: tuple[Path, ...],
    modules: Store | None = None,
    trusted: bool = True,
) -> tuple[Mapping[str, Any], tuple[PluginModule, ...]]:
    """A file's content merged with the space that it is `like`, and the plugins of both.

    Args:
        seen: the files that led here by `like`, to detect a circle.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"a space file is a mapping with the fields {', '.join(FIELDS)}, not {shown(content)}"
        )
    for key in content:
        if key not in FIELDS:
            raise unknown("field", key, FIELDS)
    data, train = content.get("data"), _mapping(content, "train")
    if data and "data" in train:
        raise ConfigError("the space has `data`, and `data` in `train`: give it once")
    check_given_once({"data": data or {}, **train})
    place = modules or Store(str(folder))
    trusted = trusted and modules is None and not (folder / STUDY).exists()
    imports = load_plugins(content.get("imports"), place, trusted=trusted)
    like = content.get("like")
    if like is None:
        return content, imports
    try:
        check_no_credentials(str(like))
    except CredentialsError as error:
        raise ConfigError(f"like: {error}") from error
    path = _find(local_path("like:", like), folder).resolve()
    if path in seen:
        raise ConfigError(
            f"like: {like} leads back to itself: remove `like` from one of these spaces"
        )
    base, base_imports = _resolve(read_yaml(path), path.parent, (*seen, path), None, trusted)
    merged = {
        name: {**_mapping(base, name), **_mapping(content, name)} for name in ("train", "knobs")
    }
    if any(key in content for key in OBJECTIVE):  # one of them replaces the other, too
        base = {key: value for key, value in base.items() if key not in OBJECTIVE}
    return {**base, **content, **merged}, merge_plugins(base_imports, imports)


def _parse_objectives(content: Mapping[str, Any]) -> tuple[Metric, ...]:
    one, several = (content.get(key) for key in OBJECTIVE)
    if one is not None and several is not None:
        raise ConfigError(
            f"the space has objective: {shown(one)} and objectives: {shown(several)}: give one of "
            "them"
        )
    if several is not None:
        return objectives_from(several)
    return (objective_from("balanced_accuracy" if one is None else one),)


def _without_presets_outside(space: SearchSpace) -> SearchSpace:
    """The space without the presets of its list that it does not contain.

    The list is that of another space, which this one may narrow, or that of a study, which an
    earlier version of imbtune with other presets may have searched.
    """
    if space.preset_names is None:
        return space
    inside = tuple(name for name in space.preset_names if space.contains(name))
    outside = tuple(name for name in space.preset_names if name not in inside)
    source = {**space.source, "presets": list(inside)}
    return replace(space, preset_names=inside, left_out=outside, source=source)


def _check_fixed_slots(space: SearchSpace, chosen: Mapping[str, object]) -> None:
    """Check that in slots which are not searched, every knob belongs to the chosen part."""
    fixed = {
        k: v for k, v in space.fixed.items() if k.partition(".")[0] not in SLOTS.keys() - chosen
    }
    TrainConfig.from_settings(fixed)
    for knob in space.knobs:
        slot, dot, name = knob.key.partition(".")
        if dot and slot in chosen:
            check_knob(slot, SLOTS[slot][chosen[slot]].name, name)


def _order(knob: SearchedKnob) -> tuple[bool, bool]:
    """Sort key: slots before the knobs of their parts; choices, such as schedules, before ranges,
    which they may switch on and off."""
    return "." in knob.key, not knob.choices


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {shown(value)} is not a mapping: write KEY: VALUE")
    if len(value) > CHOICES:
        raise ConfigError(f"{name} has {len(value):,} entries: give at most {CHOICES:,}")
    return value


def _parse_late_variants(count: object, knobs: list[SearchedKnob]) -> int:
    if type(count) is not int or count < 1:  # a bool is an int too
        raise ConfigError(f"late_variants: {shown(count)}: give a whole number, at least 1")
    if count > LATE_VARIANTS:
        raise ConfigError(f"late_variants: {count:,}: give at most {LATE_VARIANTS}")
    if count > 1 and not any(can_be_cooldown_only(knob.key) for knob in knobs):
        raise ConfigError(
            f"late_variants: {count}: no searched knob acts only in the cool-down, such as "
            "weights.beta, schedule.cooldown or after: search one, or leave late_variants out"
        )
    return count


def _parse_rungs(content: Mapping[str, Any]) -> Rungs:
    bounds = {"eta": (2, ETA), "count": (1, RUNGS)}
    for key, value in content.items():
        if key not in bounds:
            raise unknown("rungs setting", key, bounds)
        least, most = bounds[key]
        if type(value) is not int or value < least:  # a bool is an int too
            raise ConfigError(f"rungs.{key}={shown(value)}: give a whole number, at least {least}")
        if value > most:
            raise ConfigError(f"rungs.{key}={value:,}: give at most {most:,}")
    return Rungs(**content)
