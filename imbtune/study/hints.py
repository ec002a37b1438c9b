"""Makes the commands that are printed as hints; a user can copy and run them unchanged."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import yaml

from imbtune.errors import StorageError
from imbtune.storage import Store
from imbtune.study.request import CALIBRATION, COMPARISON, SEARCH, SearchRequest

# fields of a request that another command on the same data and machines needs too
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
    """`imbtune`, or the path of that program if the shell does not find the name."""
    if shutil.which("imbtune"):
        return "imbtune"
    path = Path(sys.argv[0]).absolute()
    if path.stem != "imbtune":  # a script or notebook, which has no such commands
        path = Path(sys.executable).with_name("imbtune")
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def space_command(verb: str, request: SearchRequest, **more: str | None) -> str:
    """`imbtune VERB SPACE` with the request's settings, data and machines, quoted for a shell.

    Args:
        verb: search or calibrate.
        more: further options by name, with underscores; those that are None are left out.
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
    for text in request.objectives:
        words += ["--objective", text]
    for key, value in pinned.items():
        words += ["--set", f"{key}={_as_yaml(value)}"]
    return shlex.join(words)


def resume_command(path: str, finals: int | None = None) -> str:
    """`imbtune resume` for a study, quoted for a shell. All options are in the study itself.

    Args:
        finals: another number of finalists; None for the study's.
    """
    more = [] if finals is None else ["--finals", str(finals)]
    return shlex.join([program(), "resume", path, *more])


def divergence_fix(request: SearchRequest, has_trials_left: bool) -> str:
    """What to do about trials or runs that diverged: the same settings would diverge again.

    Args:
        has_trials_left: whether a resumed study trains other trials.
    """
    verb = {CALIBRATION: "calibrate", COMPARISON: "compare"}.get(request.purpose, "search")
    fix, resume = f"{verb} with a lower optimizer.lr and another --name", ""
    if has_trials_left:
        resume = resume_command(request.path)
    if resume and request.purpose != SEARCH:  # which trains the same runs again, these first
        return f"{fix}; or, where the machine is the cause, fix it, then run {resume}"
    return f"{fix}, or try other trials with {resume}" if resume else fix


def retry_fix(request: SearchRequest) -> str:
    """What to do about trials or runs that raised an exception or lost their workers."""
    fix = f"fix the cause, then run {resume_command(request.path)}"
    if request.purpose == SEARCH:  # others always train failed runs again
        fix += " --retry-failed"
    if request.space.imports:
        fix += " (a study keeps its copy of your modules: for a changed one, give another --name)"
    return fix


@contextmanager
def naming_resume(path: str) -> Iterator[None]:
    """Say in the message of a StorageError or of Ctrl-C how to go on with the study at `path`."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}: when it works again, run {resume_command(path)}") from error
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{resume_command(path)} goes on with the study") from error


def free_folder(folder: Path) -> Path:
    """The folder, or the first of FOLDER-2, FOLDER-3, … that is empty or does not exist."""
    names = (f"{folder.name}-{i}" if i > 1 else folder.name for i in range(1, 10**6))
    return next(p for p in map(folder.with_name, names) if Store(str(p)).is_empty())


def _as_yaml(value: object) -> str:
    """A value as YAML reads it back: 1.0e-05, since YAML reads 1e-05 as a string."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]
