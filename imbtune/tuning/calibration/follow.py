"""`--rungs auto`: a search that follows a calibration of its space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imbtune.config.plugins import describe
from imbtune.config.yaml_files import parse_yaml
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError
from imbtune.progress import Log
from imbtune.spaces.search_space import Rungs, SearchSpace
from imbtune.storage import Store, join
from imbtune.study.files import check_purpose, read_study
from imbtune.study.hints import resume_command, space_command
from imbtune.study.request import CALIBRATION, CALIBRATION_SUFFIX, SearchRequest
from imbtune.tuning.calibration.rung_quality import Basis, Calibration

FILE = "calibration.yaml"
COMPARED = ("data", "model", "epochs")  # slots and settings: with others, another calibration
DIGITS = 12  # of the SHA-256 of a file of one's own parts
NAMED = 3  # of the differences, in what is printed


def read_calibration(path: str, request: SearchRequest) -> Calibration:
    """What `imbtune calibrate` found, from its study.

    Args:
        request: of a search that follows it, or its own: how to calibrate again.

    Raises:
        ConfigError: no such file, or one that is broken.
    """
    file = join(path, FILE)
    try:
        return Calibration.from_dict(parse_yaml(file, Store(path).read(FILE).decode()))
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ConfigError(
            f"{file} is no calibration that can be read ({reason}): {_calibrate_first(request)}"
        ) from error


def with_calibration(request: SearchRequest, given: str | None = None) -> SearchRequest:
    """The request with the rungs that a stored calibration of its space recommends.

    Args:
        given: the calibration's study: its name in the same storage, or its folder or URI; by
            default the one that is named after the space.

    Raises:
        ConfigError: no calibration, one that is not whole, or for other settings.
    """
    path = given or request.space.name + CALIBRATION_SUFFIX
    if "/" not in path and not path.startswith("."):
        path = join(request.storage, path)
    _check_whole(request, path)
    found = read_calibration(path, request)
    here = basis_of(request.space, found.basis.data)
    for key, value in here.settings.items():
        known = found.basis.settings.get(key)
        if known != value:
            raise ConfigError(
                f"--rungs auto: the calibration in {path} has {key}={known}, this search {value}: "
                + _calibrate_first(request)
            )
    followed = {
        "place": path,
        "sha256": hashlib.sha256(Store(path).read(FILE)).hexdigest(),
        "data": found.basis.data,
        "differs": differences(found.basis.knobs, here.knobs),
    }
    rungs = Rungs(found.advice.eta, found.advice.count)
    source = {**request.space.source, "rungs": vars(rungs)}
    space = replace(request.space, rungs=rungs, source=source)
    return replace(request, rungs=found.advice.rungs, space=space, calibration=followed)


def check_followed(request: SearchRequest, splits: Splits, log: Log) -> None:
    """Say in what else the calibration that a search follows differs from it.

    Raises:
        ConfigError: it is of other images.
    """
    followed = request.calibration
    if followed and followed["data"] != splits.fingerprint():
        raise ConfigError(
            f"--rungs auto: the images differ from those of the calibration in "
            f"{followed['place']}, though their settings are the same: {_calibrate_first(request)}"
        )
    if followed and followed["differs"]:
        log(f"The calibration in {followed['place']} differs in {followed['differs']}.")


def basis_of(space: SearchSpace, fingerprint: str) -> Basis:
    """What a calibration of the space, on images of this fingerprint, holds for."""
    flat = {**space.base().flat(), **space.fixed, **space.pinned}
    searched = {knob.key: knob.describe() for knob in space.knobs if knob.key not in space.pinned}
    owners = {key: key.partition(".")[0] for key in flat if key != "seed"}
    settings = {k: flat[k] for k, owner in owners.items() if owner in COMPARED}
    knobs = {k: flat[k] for k, owner in owners.items() if owner not in COMPARED}
    own = {f"imports {k}": [*v.values()][-1][:DIGITS] for k, v in describe(space.imports).items()}
    return Basis({**settings, "objective": space.objective}, knobs | searched | own, fingerprint)


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs between two spaces' settings, in words; empty where nothing does.

    Knobs that only one of them has go without saying where their part differs.
    """
    differ = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    both = there.keys() & here.keys()
    keys = [k for k in differ if "." not in k or k in both or k.partition(".")[0] not in differ]
    named = [f"{k} ({there.get(k, 'none')} there, {here.get(k, 'none')} here)" for k in keys]
    more = [f"{len(named) - NAMED} more"] if len(named) > NAMED else []
    return ", ".join(named[:NAMED] + more)


def _check_whole(request: SearchRequest, path: str) -> None:
    """ConfigError where there is no calibration, or one without figures yet."""
    store = Store(path)
    if store.exists(FILE):
        return
    if not store.exists("study.yaml"):
        raise ConfigError(
            f"--rungs auto: there is no calibration in {path}: {_calibrate_first(request)}"
        )
    check_purpose(read_study(path)[0], CALIBRATION)
    raise ConfigError(
        f"--rungs auto: the calibration in {path} is not whole yet: run {resume_command(path)}"
    )


def _calibrate_first(request: SearchRequest) -> str:
    """The mend: a calibration that fits the request."""
    usual = request.space.name + CALIBRATION_SUFFIX
    free = replace(request, name=usual).free_name()
    if free == usual:
        return f"run {space_command('calibrate', request)}"
    command = space_command("calibrate", request, name=free)
    return f"run {command} and search with --calibration {free}"
