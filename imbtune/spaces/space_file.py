"""The file of a search space: a data set, fixed settings, and the knobs to search.

    about: Long-tailed CIFAR-10
    imports: [my_losses]                      # modules with parts of one's own
    data: {name: cifar10, profile: exp, ratio: 100}
    train: {model: resnet32, epochs: 200}     # fixed, and what presets take for searched knobs
    objective: balanced_accuracy
    rungs: {eta: 3, count: 3}
    late_variants: 4                          # trials on one trunk that differ in late settings
    presets: [erm, drw, mamix_drw]            # the first trials; left out, every preset that fits
    knobs:
      mix: [none, mixup, mamix]               # a list of choices
      mix.omega: {low: 0, high: 1}            # a range; `scale: log` or `complement`
      mix.alpha:                              # nothing: the knob's own search range

A knob is suggested only where it acts: `mix.omega` when the chosen mixing method has an ω.

`like: cifar10-lt` takes what the file leaves out from another space, by name or by path from this
file: whole fields, but `train` and `knobs` entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbtune.config.cooldown_only import can_be_cooldown_only
from imbtune.config.defaults import DEFAULTS
from imbtune.config.plugins import PluginModule, load_plugins, merge_plugins, with_imports
from imbtune.config.slots import SLOTS, check_knob, find_knob
from imbtune.config.train_config import PLAIN, TrainConfig, flatten
from imbtune.config.yaml_files import read_yaml
from imbtune.errors import ConfigError, unknown
from imbtune.registry import DeclaredKnob, describe_range
from imbtune.spaces.search_space import Rungs, SearchedKnob, SearchSpace, check_setting
from imbtune.storage import Store
from imbtune.training.evaluation.metrics import OBJECTIVES

FIELDS = (
    "like",
    "about",
    "imports",
    "data",
    "train",
    "objective",
    "rungs",
    "late_variants",
    "presets",
    "knobs",
)
DERIVED = ("like", "imports")  # what a whole content has no need of, or by another way
SCALES = ("linear", "log", "complement")


def list_spaces() -> dict[str, Path]:
    """The spaces that ship with imbtune, by name."""
    here = Path(__file__).resolve().parents[1]
    folder = here / "search_spaces"  # in the wheel; in a checkout they stand at the top
    folder = folder if folder.is_dir() else here.parent / "search_spaces"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str) -> SearchSpace:
    """A space by its name, or from a YAML file.

    Raises:
        ConfigError: no such space, or anything in it that cannot be.
    """
    path = _find(name_or_path, Path())
    content = read_yaml(path)
    try:
        return parse_space(path.stem, content, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def parse_space(
    name: str, content: object, folder: Path = Path(), modules: Store | None = None
) -> SearchSpace:
    """A space from the content of its file, which stands in `folder`.

    Args:
        modules: where the files of its `imports` are; `folder` by default.
    """
    content, imports = _whole(content, folder, (), modules)
    fixed = flatten({"data": content.get("data") or {}, **_mapping(content, "train")})
    knobs = _mapping(content, "knobs")
    chosen = {slot: fixed.get(slot, DEFAULTS[slot]) for slot in DEFAULTS if slot not in knobs}
    ranges = [_parse_knob(str(key), spec, chosen, knobs) for key, spec in knobs.items()]
    objective = content.get("objective", "balanced_accuracy")
    if objective not in OBJECTIVES:
        raise unknown("metric", objective, OBJECTIVES)
    presets = content.get("presets")
    if presets is not None and not (
        isinstance(presets, list) and all(isinstance(name, str) for name in presets)
    ):
        raise ConfigError(f"presets: {presets!r} is not a list of preset names")
    if "seed" in fixed:
        raise ConfigError(f"seed={fixed['seed']} cannot be fixed in a space: give --seed")
    space = SearchSpace(
        name=name,
        about=str(content.get("about", "")),
        fixed={key: check_setting(key, value) for key, value in fixed.items()},
        knobs=tuple(sorted(ranges, key=_order)),
        objective=objective,
        rungs=_parse_rungs(_mapping(content, "rungs")),
        preset_names=None if presets is None else tuple(presets),
        imports=imports,
        late_variants=_parse_late(content.get("late_variants", 1), ranges),
        source=with_imports({k: v for k, v in content.items() if k not in DERIVED}, imports),
    )
    _check_fixed_slots(space, chosen)
    space.base()
    space.presets()
    return space


def _find(name_or_path: str, folder: Path) -> Path:
    """The file of a space: a shipped name, or a path from `folder`."""
    shipped = list_spaces()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = folder / name_or_path
    if path.is_dir():
        raise ConfigError(f"the space {path} is a folder: give a YAML file")
    if not path.is_file():
        raise unknown("space", name_or_path, [*shipped, "or the path of a YAML file"])
    return path


def _whole(
    content: object, folder: Path, above: tuple[Path, ...], modules: Store | None = None
) -> tuple[Mapping[str, Any], tuple[PluginModule, ...]]:
    """A file's content with what it takes from the space that it is `like`, and all imports."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"a space is a mapping of {', '.join(FIELDS)}, not {content!r}")
    for key in content:
        if key not in FIELDS:
            raise unknown("field", key, FIELDS)
    imports = load_plugins(content.get("imports"), modules or Store(str(folder)))
    like = content.get("like")
    if like is None:
        return content, imports
    path = _find(str(like), folder).resolve()
    if path in above:
        raise ConfigError(f"like: {like} comes back to itself: leave one of them out")
    other, others_imports = _whole(read_yaml(path), path.parent, (*above, path))
    merged = {
        name: {**_mapping(other, name), **_mapping(content, name)} for name in ("train", "knobs")
    }
    return {**other, **content, **merged}, merge_plugins(others_imports, imports)


def _check_fixed_slots(space: SearchSpace, chosen: Mapping[str, object]) -> None:
    """In slots that are not searched, every knob named must be the chosen part's."""
    fixed = {
        k: v for k, v in space.fixed.items() if k.partition(".")[0] not in SLOTS.keys() - chosen
    }
    TrainConfig.from_settings(fixed)
    for knob in space.knobs:
        slot, dot, name = knob.key.partition(".")
        if dot and slot in chosen:
            check_knob(slot, SLOTS[slot][chosen[slot]].name, name)


def _order(knob: SearchedKnob) -> tuple[bool, bool]:
    """Parts before their knobs, switches (a schedule) before what they switch."""
    return "." in knob.key, not knob.choices


def _mapping(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: {value!r} is not a mapping")
    return value


def _parse_knob(
    key: str, spec: object, chosen: Mapping[str, object], knobs: Mapping[str, Any]
) -> SearchedKnob:
    """One line of `knobs`. `chosen`: the parts of slots that are not searched themselves."""
    if key.partition(".")[0] == "data" or key in ("seed", "epochs"):
        raise ConfigError(
            f"'{key}' cannot be searched: trials compare on the same data and budgets"
        )
    if isinstance(spec, list):
        if not spec:
            raise ConfigError(f"{key}: an empty list of choices: name at least one")
        values = tuple(check_setting(key, value) for value in spec)
        return SearchedKnob(key, type(values[0]), choices=values)
    if key in DEFAULTS:
        raise ConfigError(f"{key}: {spec!r} is not a list of part names")
    parameter = PLAIN[key] if key in PLAIN else find_knob(key, chosen)
    if spec is None:
        _check_one_range(key, knobs)
        if parameter.knob.choices:
            return SearchedKnob(key, str, choices=parameter.knob.choices)
    return _parse_range(key, spec, parameter)


def _check_one_range(key: str, knobs: Mapping[str, Any]) -> None:
    """ConfigError where the searched parts of a slot have different search ranges for a knob."""
    slot, _, name = key.partition(".")
    names = knobs[slot] if isinstance(knobs.get(slot), list) else []
    owners = [p for n in names if (p := SLOTS[slot][n].knobs.get(name))]
    if len({(p.knob.search, p.knob.scale) for p in owners}) > 1:
        raise ConfigError(f"{key}: its range differs among {', '.join(names)}: give low and high")


def _parse_range(key: str, spec: object, parameter: DeclaredKnob) -> SearchedKnob:
    knob = parameter.knob
    if spec is None and knob.search:
        spec = {"low": knob.search[0], "high": knob.search[1]}
    if not isinstance(spec, Mapping) or not {"low", "high"} <= set(spec) <= {
        "low",
        "high",
        "scale",
    }:
        raise ConfigError(f"{key}: {spec!r} is neither a list of choices nor {{low: …, high: …}}")
    if parameter.type not in (int, float):
        raise ConfigError(
            f"{key} takes {describe_range(knob)}: give a list of choices, not a range"
        )
    low, high = (float(parameter.check(key, spec[end])) for end in ("low", "high"))
    scale = spec.get("scale", knob.scale)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if low > high:
        raise ConfigError(f"{key}: low={low:g} is above high={high:g}: swap them")
    if (scale == "log" and low <= 0) or (scale == "complement" and high >= 1):
        raise ConfigError(f"{key}: {low:g} to {high:g} cannot be on a {scale} scale: use linear")
    return SearchedKnob(key, parameter.type, low, high, scale)


def _parse_late(count: object, knobs: list[SearchedKnob]) -> int:
    if type(count) is not int or count < 1:  # a bool is an int too
        raise ConfigError(f"late_variants: {count!r} is not a whole number from 1")
    if count > 1 and not any(can_be_cooldown_only(knob.key) for knob in knobs):
        raise ConfigError(
            f"late_variants: {count}: no knob of the space acts in the cool-down alone, as "
            "weights.beta, schedule.cooldown or after: search one, or leave late_variants out"
        )
    return count


def _parse_rungs(content: Mapping[str, Any]) -> Rungs:
    least = {"eta": 2, "count": 1}
    for key, value in content.items():
        if key not in least:
            raise unknown("rungs setting", key, least)
        if type(value) is not int or value < least[key]:  # a bool is an int too
            raise ConfigError(f"rungs.{key}={value!r} is not a whole number from {least[key]}")
    return Rungs(**content)
