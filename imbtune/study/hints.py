"""Commands to be typed next: what is printed runs as it stands."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from dataclasses import fields
from pathlib import Path

import yaml

from imbtune.study.request import SearchRequest

# fields of a request that say which data it has and where it runs
SHARED = (
    "storage",
    "data",
    "skip_corrupt",
    "address",
    "gpus_per_trial",
    "cpus_per_trial",
    "max_concurrent",
    "pack",
)


def program() -> str:
    """What runs imbtune in this shell: its name, or its path where the name is not found."""
    if shutil.which("imbtune"):
        return "imbtune"
    path = Path(sys.argv[0]).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def space_command(verb: str, request: SearchRequest, **more: str | None) -> str:
    """`imbtune VERB SPACE` with the request's settings, data and machines, quoted for a shell.

    Args:
        more: further options; those that are None are left out.
    """
    defaults = {field.name: field.default for field in fields(request)}
    given = {name: getattr(request, name) for name in SHARED}
    options = {name: value for name, value in given.items() if value != defaults[name]}
    pinned = dict(request.space.pinned)
    words = [program(), verb, request.typed or request.space.name]
    for name, value in {**more, "epochs": pinned.pop("epochs", None), **options}.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            words += [option] if value is True else [option, str(value)]
    for key, value in pinned.items():
        words += ["--set", f"{key}={_typed(value)}"]
    return shlex.join(words)


def resume_command(path: str) -> str:
    """`imbtune resume` of a study, quoted for a shell; the study knows the rest."""
    return shlex.join([program(), "resume", path])


def _typed(value: object) -> str:
    """A value as YAML reads it: 1.0e-05, for 1e-05 is a word there."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
