"""The options of a search, checked: those that `search`, `plan` and `calibrate` share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbtune.errors import ConfigError, unknown
from imbtune.paths import local_path, path_or_uri
from imbtune.registry import Value

if TYPE_CHECKING:  # torch and Ray are imported when a function needs them
    from imbtune.spaces.search_space import SearchSpace
    from imbtune.study.request import SearchRequest

LEAST = {  # of options that are whole numbers
    "trials": 1,
    "seed": 0,
    "cpus_per_trial": 1,
    "max_concurrent": 1,
    "finals": 0,
    "max_failures": 0,
    "final_seeds": 1,
}
OPTIONAL = ("cpus_per_trial", "max_concurrent", "finals")  # of these, None is a value


def search_request(
    space: str | Path | SearchSpace,
    *,
    name: str | None = None,
    settings: Mapping[str, Value] | None = None,
    epochs: int | None = None,
    objective: str | None = None,
    rungs: str = "cooldown",
    calibration: str | Path | None = None,
    storage: str | Path = "runs",
    wandb_tags: str | Sequence[str] | None = None,
    **options: Any,
) -> SearchRequest:
    """The options of a search as a checked request.

    Args:
        space: a name, the path of a file, or a space.
        settings: are fixed in the space.
        epochs: is fixed in the space.
        objective: replaces the space's.
        wandb_tags: a list, or a text with commas between the tags.
        options: the other fields of the request.

    Raises:
        ConfigError: an option that cannot be.
    """
    from imbtune.spaces.search_space import SearchSpace
    from imbtune.spaces.space_file import load_space
    from imbtune.study.request import AUTO, LOCAL, SearchRequest
    from imbtune.study.tables.parquet import MODES
    from imbtune.training.phases import RUNG_KINDS

    check_options({"name": name, **options})
    if options.get("address") == LOCAL:
        options["address"] = None
    folder, tags = path_or_uri("--storage", storage), _tags(wandb_tags)
    if calibration is not None:
        calibration = path_or_uri("--calibration", calibration)
    pinned = checked_settings(settings, epochs)
    loaded = space if isinstance(space, SearchSpace) else load_space(space)
    loaded = loaded.pin(pinned)
    if objective is not None:
        loaded = _with_objective(loaded, objective)
    study_name = name or loaded.name
    named = isinstance(study_name, str) and re.fullmatch(r"[\w.-]+", study_name)
    if not named or study_name.startswith("."):
        if name is None:
            raise ConfigError(
                f"the space's name {study_name!r}, which names the study: rename the file, with "
                "letters, digits, '-', '_' and '.'"
            )
        raise ConfigError(f"--name {study_name!r}: use letters, digits, '-', '_' and '.'")
    if "seed" in pinned:
        raise ConfigError(
            f"--set seed={pinned['seed']}: give --seed, which all trials' seeds follow"
        )
    typed = "" if isinstance(space, SearchSpace) else str(space)
    request = SearchRequest(
        loaded,
        name=study_name,
        rungs=rungs,
        storage=folder,
        objective=objective,
        typed=typed,
        wandb_tags=tags,
        **options,
    )
    for option, value, choices in (
        ("--rungs", request.rungs, (*RUNG_KINDS, "none", AUTO)),
        ("--wandb", request.wandb, MODES),
    ):
        if value not in choices:
            raise unknown(f"value for {option}", value, choices)
    _check_plugins_have_modules(loaded)
    if request.rungs == AUTO:
        from imbtune.tuning.calibration.follow import with_calibration

        request = with_calibration(request, calibration)
    elif calibration:
        raise ConfigError(f"--calibration {calibration} goes with --rungs auto")
    if loaded.late_variants > 1 and request.rungs == "prefix":
        raise ConfigError(
            f"--rungs prefix cannot tell late_variants: {loaded.late_variants} apart, which differ "
            "in the cool-down alone: give cooldown, or leave late_variants out of the space"
        )
    return request


def _with_objective(space: SearchSpace, objective: object) -> SearchSpace:
    """The space with another objective, also in the file that a study keeps of it."""
    from imbtune.training.evaluation.metrics import OBJECTIVES

    if objective not in OBJECTIVES:
        raise unknown("value for --objective", objective, OBJECTIVES)
    source = {**space.source, "objective": objective}
    return replace(space, objective=str(objective), source=source)


def checked_settings(settings: object, epochs: object) -> dict[str, Value]:
    """The settings that are fixed, the epochs among them.

    Raises:
        ConfigError: something else than a mapping of names to values, or than whole epochs.
    """
    found: dict[str, Any] = {}
    if settings is not None:
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise ConfigError(f"settings={settings!r}: give a mapping, such as {{'mix': 'mamix'}}")
        found.update(settings)
    check_whole("epochs", epochs, 1, optional=True)
    if epochs is not None:
        if "epochs" in found:
            raise ConfigError(f"--epochs {epochs} and --set epochs={found['epochs']}: give one")
        found["epochs"] = epochs
    return found


def check_log(log: object) -> None:
    """ConfigError for a log that cannot be called."""
    if log is not None and not callable(log):
        raise ConfigError(f"log={log!r}: give a function that takes a line, or None")


def given_path(option: str, value: object) -> Path | None:
    """A path on this machine; ConfigError for an empty one, a URI, or something that is no path."""
    return None if value is None else Path(local_path(_flag(option), value))


def check_options(options: Mapping[str, Any]) -> None:
    """ConfigError for an option that is empty, or that is not the text or number it must be."""
    for option, value in options.items():
        if value == "":  # a shell makes this of an unset variable
            raise ConfigError(f"{_flag(option)} '': it is empty: give a value, or leave it out")
    for option, least in LEAST.items():
        if option in options:
            check_whole(option, options[option], least, optional=option in OPTIONAL)
    for option in ("wandb_project", "wandb_entity"):
        if not isinstance(options.get(option), str | None):
            raise ConfigError(f"{_flag(option)} {options[option]!r}: give a name")
    address = options.get("address")
    if address is not None and not isinstance(address, str):
        raise ConfigError(f"--address {address!r}: give auto or HEAD:6379")
    share = options.get("never_prune", 0.0)
    if not _is_number(share) or not 0 <= share <= 1:
        raise ConfigError(f"--never-prune {share!r}: give a share from 0 to 1")
    for option in ("time_budget", "trial_timeout"):
        seconds = options.get(option)
        if seconds is not None and not (_is_number(seconds) and seconds > 0):
            raise ConfigError(f"{_flag(option)} {seconds!r}: give a number of seconds above 0")
    gpus = options.get("gpus_per_trial")
    if gpus not in (None, "auto") and not _is_number(gpus):
        raise ConfigError(
            f"--gpus-per-trial {gpus!r}: give 1/n such as 0.25, a whole number, or auto"
        )


def _tags(tags: object) -> list[str]:
    """The tags of a list, or of a text with commas between them; none for None.

    Raises:
        ConfigError: something else, or an empty tag.
    """
    found = tags.split(",") if isinstance(tags, str) else [] if tags is None else tags
    if not isinstance(found, Sequence) or not all(isinstance(tag, str) for tag in found):
        raise ConfigError(f"--wandb-tags {tags!r}: give words with commas between them")
    if not all(tag.strip() for tag in found):
        raise ConfigError(f"--wandb-tags {tags!r}: a tag is empty: give a value, or leave it out")
    return [tag.strip() for tag in found]


def check_whole(
    option: str, value: object, least: int, optional: bool = False, most: int | None = None
) -> None:
    """ConfigError for a value that is no whole number from `least` to `most`.

    Args:
        optional: None is accepted, too.
        most: None for no bound.
    """
    if optional and value is None:
        return
    if type(value) is not int or value < least or (most is not None and value > most):
        end = "on" if most is None else f"to {most}"
        raise ConfigError(f"{_flag(option)} {value!r}: give a whole number from {least} {end}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _flag(option: str) -> str:
    """The option of the command line with the name of a keyword argument."""
    return f"--{option.replace('_', '-')}"


def _check_plugins_have_modules(space: SearchSpace) -> None:
    """ConfigError for a part that only this process has: Ray's workers could not train it."""
    from imbtune.config.slots import registries

    values = [*space.fixed.values(), *space.pinned.values()]
    values += [choice for knob in space.knobs for choice in knob.choices]
    names = {name for value in values for name in str(value).split("+")}
    loaded = {(part.slot, part.name) for part in space.plugin_parts()}
    for registry in registries():
        for part in registry:
            here = part.name in names and not part.is_builtin
            if here and (part.slot, part.name) not in loaded:
                raise ConfigError(
                    f"{part.slot} '{part.name}' is registered in this process alone, and trials "
                    "run in others: put it into a module, and name that in the space's `imports`"
                )
