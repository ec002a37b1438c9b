"""The options of a search, checked: those that `search`, `plan` and `calibrate` share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbtune.errors import ConfigError, shown, unknown
from imbtune.limits import (
    CHOICES,
    NAME_BYTES,
    PROCESSORS,
    SECONDS,
    WANDB_NAME,
    check_name,
    check_whole,
    flag,
)
from imbtune.paths import local_path, path_or_uri
from imbtune.registry import Value

if TYPE_CHECKING:  # torch and Ray are imported when a function needs them
    from imbtune.metrics.metric import Metric
    from imbtune.spaces.search_space import SearchSpace
    from imbtune.study.request import SearchRequest

Objective = str | Mapping[str, Value]  # a name, or a mapping with knobs
WHOLE = (
    "trials",
    "seed",
    "cpus_per_trial",
    "max_concurrent",
    "finals",
    "max_failures",
    "final_seeds",
)
OPTIONAL = ("cpus_per_trial", "max_concurrent", "finals")  # of these, None is a value


def search_request(
    space: str | Path | SearchSpace,
    *,
    name: str | None = None,
    settings: Mapping[str, Value] | None = None,
    epochs: int | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    rungs: str = "cooldown",
    calibration: str | Path | None = None,
    storage: str | Path = "runs",
    wandb_tags: str | Sequence[str] | None = None,
    any_name: bool = False,
    **options: Any,
) -> SearchRequest:
    """The options of a search as a checked request.

    Args:
        space: a name, the path of a file, or a space.
        settings: are fixed in the space.
        epochs: is fixed in the space.
        objective: replaces the space's; a list for several.
        wandb_tags: a list, or a text with commas between the tags.
        any_name: name the study after any space, with '-' for characters that it cannot have.
        options: the other fields of the request.

    Raises:
        ConfigError: an option that cannot be.
    """
    from imbtune.data.load import check_reads_files
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
    typed_objectives: tuple[str, ...] = ()
    if objective is not None:
        loaded = _with_objectives(loaded, objective)
        typed_objectives = tuple(metric.text() for metric in loaded.objectives)
    study_name = name or loaded.name
    if any_name:
        fitting = re.sub(r"[^\w.-]+", "-", study_name).strip("-.") or "study"
        study_name = fitting.encode()[:NAME_BYTES].decode(errors="ignore")
    named = isinstance(study_name, str) and re.fullmatch(r"[\w.-]+", study_name)
    if not named or study_name.startswith("."):
        if name is None:
            raise ConfigError(
                f"the space's name {study_name!r}, which names the study: rename the file, with "
                "letters, digits, '-', '_' and '.', or give --name"
            )
        raise ConfigError(
            f"--name {shown(study_name)}: use letters, digits, '-', '_' and '.', and no '.' at the "
            "start"
        )
    check_name("--name" if name else "the space's name", study_name)
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
        objectives=typed_objectives,
        typed=typed,
        wandb_tags=tags,
        **options,
    )
    check_reads_files(loaded.base().data.name, request.data)
    for option, value, choices in (
        ("--rungs", request.rungs, (*RUNG_KINDS, "none", AUTO)),
        ("--wandb", request.wandb, MODES),
    ):
        if value not in choices:
            raise unknown(f"value for {option}", value, choices)
    if request.wandb != "off" and len(study_name) > WANDB_NAME:
        raise ConfigError(
            f"--name {shown(study_name)} has {len(study_name)} characters, and W&B takes "
            f"{WANDB_NAME}: give a shorter one, or --wandb off"
        )
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


def submitted_request(space: str, *, trust: bool = False, **options: Any) -> SearchRequest:
    """The request that a cluster's head node will make of these options, checked on this machine.

    Not checked is what only the head node has: the data, a calibration, its home folder.

    Args:
        space: a name, or the path of a file.
        trust: run modules beside the space that this user has not run before.
        options: as in :func:`search_request`.

    Raises:
        ConfigError: an option that cannot be.
        UntrustedError: the space has modules that may not run.
    """
    from imbtune.config.trust import consent
    from imbtune.data.load import check_reads_files

    data, options["data"] = options.get("data"), None
    if options.get("rungs") == "auto":
        options |= {"rungs": "cooldown", "calibration": None}
    if str(options.get("storage")).startswith("~"):
        options["storage"] = "runs"
    with consent(trust):
        request = search_request(space, **options)
    check_reads_files(request.space.base().data.name, data)
    return request


def given_objectives(given: object) -> tuple[Metric, ...]:
    """The metrics of `--objective`.

    Args:
        given: one metric or a list; each a name, a mapping as in a space file, or such a mapping
            as a text; a text may be a list of them, as in a space file.

    Raises:
        ConfigError: a metric that there is not, or one that is no objective; too many or none.
    """
    from imbtune.config.yaml_files import parse_value
    from imbtune.metrics.metric import objectives_from

    entries: list[object] = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        if isinstance(entry, str) and entry.lstrip().startswith(("{", "[")):
            hint = "give a metric's name, or {name: …} with values for its knobs"
            parsed = parse_value(entry, "--objective", hint)
            entries += parsed if isinstance(parsed, list) else [parsed]
        elif isinstance(entry, str) and "," in entry:
            raise ConfigError(f"--objective {shown(entry)}: give --objective once for each metric")
        else:
            entries.append(entry)
    return objectives_from(entries, "--objective")


def _with_objectives(space: SearchSpace, given: object) -> SearchSpace:
    """The space with other objectives, also in the file that a study keeps of it."""
    from imbtune.spaces.space_file import OBJECTIVE

    objectives = given_objectives(given)
    settings = [metric.setting() for metric in objectives]
    source = {key: value for key, value in space.source.items() if key not in OBJECTIVE}
    one, several = OBJECTIVE
    source |= {several: settings} if len(settings) > 1 else {one: settings[0]}
    return replace(space, objectives=objectives, source=source)


def checked_settings(settings: object, epochs: object) -> dict[str, Value]:
    """The settings that are fixed, the epochs among them.

    Raises:
        ConfigError: something else than a mapping of names to values, or than whole epochs.
    """
    found: dict[str, Any] = {}
    if settings is not None:
        if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
            raise ConfigError(
                f"settings={shown(settings)}: give a mapping, such as {{'mix': 'mamix'}}"
            )
        found.update(settings)
    check_whole("epochs", epochs, optional=True)
    if epochs is not None:
        if "epochs" in found:
            raise ConfigError(f"--epochs {epochs} and --set epochs={found['epochs']}: give one")
        found["epochs"] = epochs
    return found


def given_path(option: str, value: object) -> Path | None:
    """A path on this machine; ConfigError for an empty one, a URI, or something that is no path."""
    return None if value is None else Path(local_path(flag(option), value))


def check_options(options: Mapping[str, Any]) -> None:
    """ConfigError for an option that is empty, or that is not the text or number it must be."""
    for option, value in options.items():
        if value == "":  # a shell makes this of an unset variable
            raise ConfigError(f"{flag(option)} '': it is empty: give a value, or leave it out")
    for option in WHOLE:
        if option in options:
            check_whole(option, options[option], optional=option in OPTIONAL)
    for option in ("wandb_project", "wandb_entity"):
        if not isinstance(options.get(option), str | None):
            raise ConfigError(f"{flag(option)} {shown(options[option])}: give a name")
    for option in ("tensorboard", "mlflow"):
        if not isinstance(options.get(option, False), bool):
            raise ConfigError(f"{flag(option)} {shown(options[option])}: give True or False")
    address = options.get("address")
    if address is not None and not isinstance(address, str):
        raise ConfigError(f"--address {shown(address)}: give auto or HEAD:6379")
    share = options.get("never_prune", 0.0)
    if not _is_number(share) or not 0 <= share <= 1:
        raise ConfigError(f"--never-prune {shown(share)}: give a share from 0 to 1")
    for option in ("time_budget", "trial_timeout"):
        seconds = options.get(option)
        if seconds is not None and not (_is_number(seconds) and 0 < seconds <= SECONDS):
            raise ConfigError(
                f"{flag(option)} {shown(seconds)}: give a number of seconds above 0, up to ten "
                "years"
            )
    gpus = options.get("gpus_per_trial")
    if gpus not in (None, "auto") and not (_is_number(gpus) and gpus <= PROCESSORS):
        raise ConfigError(
            f"--gpus-per-trial {shown(gpus)}: give 1/n such as 0.25, a whole number, or auto"
        )


def _tags(tags: object) -> list[str]:
    """The tags of a list, or of a text with commas between them; none for None.

    Raises:
        ConfigError: something else, or an empty tag.
    """
    found = tags.split(",") if isinstance(tags, str) else [] if tags is None else tags
    if not isinstance(found, Sequence) or not all(isinstance(tag, str) for tag in found):
        raise ConfigError(f"--wandb-tags {shown(tags)}: give words with commas between them")
    if len(found) > CHOICES:
        raise ConfigError(f"--wandb-tags: {len(found):,} tags: give at most {CHOICES:,}")
    if not all(tag.strip() for tag in found):
        raise ConfigError(
            f"--wandb-tags {shown(tags)}: a tag is empty: give a value, or leave it out"
        )
    return [tag.strip() for tag in found]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
