"""`--rungs auto`: applies the result of a calibration to a search of the same space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from imbtune.config.plugin_record import describe
from imbtune.config.slots import SLOTS, find_knob
from imbtune.config.yaml_files import parse_yaml
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError
from imbtune.metrics.metric import Metric
from imbtune.progress import Log
from imbtune.spaces.search_space import Rungs, SearchSpace
from imbtune.storage import Store, join
from imbtune.study.files import check_is_a, purpose_of, read_content
from imbtune.study.hints import resume_command, space_command
from imbtune.study.request import CALIBRATION, CALIBRATION_SUFFIX, SearchRequest
from imbtune.study.results.calibration_result import FILE, Basis, Calibration

COMPARED = ("data", "model", "epochs")  # slots and settings that must equal the calibration's
DIGITS = 12  # shown of the SHA-256 of a plugin's file
NAMED = 3  # differences that are printed


def read_calibration(path: str, request: SearchRequest) -> Calibration:
    """Read the result of `imbtune calibrate`.

    Args:
        path: folder or URI of the calibration's study.
        request: of the search or calibration, for the command in the error message.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    file = join(path, FILE)
    try:
        return Calibration.from_dict(parse_yaml(file, Store(path).read(FILE)))
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ConfigError(
            f"cannot read the calibration {file} ({reason}): {_how_to_calibrate(request)}"
        ) from error


def with_calibration(request: SearchRequest, given: str | None = None) -> SearchRequest:
    """Set the rungs of a request to those that a calibration of its space recommends.

    Args:
        given: the calibration's study: a name in the request's storage, or a folder or URI; None
            for the study that is named after the space.

    Raises:
        ConfigError: there is no calibration, it is incomplete, or it was made with other settings.
    """
    path = given or request.space.name + CALIBRATION_SUFFIX
    if "/" not in path and not path.startswith("."):
        path = join(request.storage, path)
    _check_complete(request, path)
    found = read_calibration(path, request)
    here = basis_of(request.space, found.basis.data)
    calibrated = _with_new_knobs(found.basis.settings, here.settings)
    for key, value in here.settings.items():
        known = calibrated.get(key)
        if known != value:
            raise ConfigError(
                f"--rungs auto: the calibration in {path} has {key}={known}, this search has "
                f"{value}: {_how_to_calibrate(request)}"
            )
    calibration = {
        "place": path,
        "sha256": hashlib.sha256(Store(path).read(FILE)).hexdigest(),
        "data": found.basis.data,
        "differs": describe_differences(_with_new_knobs(found.basis.knobs, here.knobs), here.knobs),
    }
    rungs = Rungs(found.advice.eta, found.advice.count)
    source = {**request.space.source, "rungs": vars(rungs)}
    space = replace(request.space, rungs=rungs, source=source)
    return replace(request, rungs=found.advice.rungs, space=space, calibration=calibration)


def check_calibration(request: SearchRequest, splits: Splits, log: Log) -> None:
    """Check that a search has the images of its calibration, and log other differences.

    Raises:
        ConfigError: the images differ.
    """
    calibration = request.calibration
    if not calibration:
        return
    if calibration["data"] != splits.fingerprint():
        raise ConfigError(
            f"--rungs auto: the images differ from those of the calibration in "
            f"{calibration['place']}, though their settings are the same: "
            + _how_to_calibrate(request)
        )
    if calibration["differs"]:
        log(
            f"The calibration in {calibration['place']} differs from this search in "
            f"{calibration['differs']}."
        )


def basis_of(space: SearchSpace, fingerprint: str) -> Basis:
    """The settings and images that a calibration of this space is valid for.

    Args:
        fingerprint: of the images.
    """
    flat = {**space.base().flat(), **space.fixed, **space.pinned}
    searched = {knob.key: knob.describe() for knob in space.knobs if knob.key not in space.pinned}
    owners = {key: key.partition(".")[0] for key in flat if key != "seed"}
    settings = {k: flat[k] for k, owner in owners.items() if owner in COMPARED}
    knobs = {k: flat[k] for k, owner in owners.items() if owner not in COMPARED}
    plugins = {
        f"imports {k}": [*v.values()][-1][:DIGITS] for k, v in describe(space.imports).items()
    }
    return Basis(
        {**settings, "objective": _recorded(space.objective)},
        {**knobs, **searched, **plugins},
        fingerprint,
    )


def _recorded(objective: Metric) -> str:
    """The objective with the knobs that were given, as calibrations have recorded it."""
    setting, negative = objective.setting(), "negative " * (objective.sign < 0)
    if isinstance(setting, str):
        return f"{negative}{setting}"
    given = []
    for knob, value in setting.items():
        if knob != "name":
            is_text = isinstance(value, str)
            text = value if is_text else json.dumps(value, ensure_ascii=False, allow_nan=False)
            given.append(f"{knob} {text}")
    return f"{negative}{objective.name} ({', '.join(given)})"


def describe_differences(calibrated: Mapping[str, object], searched: Mapping[str, object]) -> str:
    """The first differences between the settings of a calibration and of a search, in words.

    A knob that only one of them has is not mentioned if the slot that it belongs to differs too.
    """
    keys = {**calibrated, **searched}
    differ = [key for key in keys if calibrated.get(key) != searched.get(key)]
    both = calibrated.keys() & searched.keys()
    shown = [k for k in differ if "." not in k or k in both or k.partition(".")[0] not in differ]
    named = [
        f"{k} ({calibrated.get(k, 'none')} there, {searched.get(k, 'none')} here)" for k in shown
    ]
    more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
    return ", ".join(named[:NAMED] + more)


def _with_new_knobs(
    calibrated: Mapping[str, object], searched: Mapping[str, object]
) -> dict[str, object]:
    """The calibration's settings, with the defaults of knobs that its version did not have.

    A knob that the search has and the calibration has not, though both have the same part, is one
    that was added to imbtune since.
    """
    defaults: dict[str, object] = {}
    for key in searched.keys() - calibrated.keys():
        slot, dot, _ = key.partition(".")
        if dot and slot in SLOTS and calibrated.get(slot) == searched.get(slot):
            defaults[key] = find_knob(key).default
    return {**calibrated, **defaults}


def _check_complete(request: SearchRequest, path: str) -> None:
    """Raise ConfigError if there is no calibration, or it has no result yet."""
    store = Store(path)
    if store.exists(FILE):
        return
    if not store.exists("study.yaml"):
        raise ConfigError(
            f"--rungs auto: there is no calibration in {path}: {_how_to_calibrate(request)}"
        )
    check_is_a(CALIBRATION, purpose_of(read_content(path)), path)
    raise ConfigError(
        f"--rungs auto: the calibration in {path} is not complete: run {resume_command(path)}"
    )


def _how_to_calibrate(request: SearchRequest) -> str:
    """The hint of an error: the command that makes a calibration for the request."""
    usual = request.space.name + CALIBRATION_SUFFIX
    free = replace(request, name=usual).free_name()
    if free == usual:
        return f"run {space_command('calibrate', request)}"
    command = space_command("calibrate", request, name=free)
    return f"run {command} and search with --calibration {free}"
