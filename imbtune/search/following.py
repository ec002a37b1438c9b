"""`--rungs auto`: a search that follows a calibration of its space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imbtune.config import parse_yaml
from imbtune.errors import ConfigError
from imbtune.results.store import Store, join
from imbtune.search.calibration import SUFFIX, Calibration
from imbtune.search.request import SearchRequest
from imbtune.search.space import Rungs, SearchSpace

FILE = "calibration.yaml"


def read_calibration(place: str) -> Calibration:
    """What `imbtune calibrate` found, from its study.

    Raises:
        ConfigError: no such file, or one that is broken.
    """
    path = join(place, FILE)
    try:
        return Calibration.from_plain(parse_yaml(path, Store(place).read(FILE).decode()))
    except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ConfigError(
            f"{path} is no calibration that can be read ({reason}): calibrate again under another "
            "--name"
        ) from error


def with_calibration(request: SearchRequest, name: str | None = None) -> SearchRequest:
    """The request with the rungs that a stored calibration of its space recommends.

    Args:
        name: of the calibration's study, in the same storage; by default the space's.

    Raises:
        ConfigError: no calibration, or one for other data or budgets.
    """
    place = join(request.storage, name or request.space.name + SUFFIX)
    store, command = Store(place), f"imbtune calibrate {request.space.name}"
    if not store.exists(FILE):
        raise ConfigError(f"--rungs auto: there is no calibration in {place}: run {command}")
    found = read_calibration(place)
    for key, value in compared_settings(request.space).items():
        known = found.settings.get(key)
        if known != value:
            raise ConfigError(
                f"--rungs auto: the calibration in {place} has {key}={known}, this search {value}: "
                f"run {command} for it, under another --name"
            )
    rungs = Rungs(found.advice.eta, found.advice.count)
    source = {**request.space.source, "rungs": vars(rungs)}
    return replace(
        request, rungs=found.advice.rungs, space=replace(request.space, rungs=rungs, source=source)
    )


def compared_settings(space: SearchSpace) -> dict[str, Any]:
    """What a calibration holds for: the data, the model, the budget and its rungs' objective."""
    flat = space.base().flat()
    kept = {k: v for k, v in flat.items() if k.partition(".")[0] in ("data", "model", "epochs")}
    return {**kept, "objective": space.objective}
