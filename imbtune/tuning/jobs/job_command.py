"""What a job runs on the head node: its command line, its files and its environment."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from imbtune import __version__
from imbtune.config.plugins import copy_sources
from imbtune.errors import ConfigError
from imbtune.paths import is_uri, path_or_uri
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.storage.temporary import temporary_folder
from imbtune.tuning.jobs.job_client import STOP_SECONDS

STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"  # Ray's: seconds between SIGTERM and SIGKILL, 3 by default
# The usual name of a variable, which a key does not look like: short words in capitals
NAME = re.compile(r"[A-Z]{1,12}[0-9]?(_[A-Z]{1,12}[0-9]?){0,7}")


@dataclass(frozen=True)
class Staged:
    """The files that a job gets as its working directory.

    Attributes:
        folder: where they are on this machine.
        space: the file of the space in it.
        files: number of files.
        size: in bytes.
    """

    folder: Path
    space: str
    files: int
    size: int


@contextmanager
def staged(space: SearchSpace) -> Iterator[Staged]:
    """The space and the user's plugins in a folder of their own, until the block ends.

    A space that is `like` others becomes one file. Nothing else of the space's folder is sent,
    where data sets and studies may be.
    """
    with temporary_folder("submit") as outer:
        folder = outer / "job"  # without the lock file
        folder.mkdir()
        name = f"{space.name}.yaml"
        text = yaml.safe_dump(dict(space.source), sort_keys=False, allow_unicode=True)
        (folder / name).write_text(text, encoding="utf-8")
        copy_sources(space.imports, Store(str(folder)))
        sizes = [path.stat().st_size for path in folder.iterdir()]
        yield Staged(folder, name, len(sizes), sum(sizes))


def on_head(command: str, words: Sequence[str], sent: str = "") -> str:
    """A command of imbtune for the shell of the head node, which must have this version of it.

    `exec`, so that the signal that stops the job reaches imbtune and not the shell alone. It does
    not stay in the job's working directory, which Ray may delete when a node is lost.

    Args:
        command: such as `search`.
        words: what follows it.
        sent: a file of the job's working directory that is the first argument; empty for none.
    """
    missing = "error: the cluster has no imbtune: install it on every node, in the Python of Ray"
    other = f"error: the cluster has $v, this machine imbtune {__version__}: install one version"
    first = f'"$here"/{shlex.quote(sent)} ' if sent else ""
    return (
        f"command -v imbtune >/dev/null || {{ echo {shlex.quote(missing)}; exit 2; }}; "
        f'v="$(imbtune --version)"; [ "$v" = "imbtune {__version__}" ] || '
        f'{{ echo "{other}"; exit 2; }}; here="$PWD"; cd ~ || exit 2; '
        f"exec imbtune {command} {first}{shlex.join(words)}"
    )


def runtime_env(names: Sequence[str], folder: Path | None = None) -> dict[str, object]:
    """Ray's runtime environment of a job.

    Args:
        names: variables of this process that the job gets. Who can use the cluster can read them.
        folder: its working directory; None for a folder of Ray's.

    Raises:
        ConfigError: a variable that is not set.
    """
    variables = {STOP_WAIT: str(STOP_SECONDS)}
    for name in names:
        if not name:
            raise ConfigError("--env '': give the name of a variable, such as AWS_ACCESS_KEY_ID")
        if name not in os.environ:
            hint = ": give the name alone, and set its value before" if "=" in name else ""
            word = name.partition("=")[0]
            if not NAME.fullmatch(word):  # perhaps the value, which may be a key
                raise ConfigError(
                    "--env: this is no name of a variable (it is not repeated here, since it may "
                    "be a key): give the name alone, such as AWS_ACCESS_KEY_ID"
                )
            raise ConfigError(f"--env {word}: this variable is not set{hint}")
        variables[name] = os.environ[name]
    found: dict[str, object] = {"env_vars": variables}
    return {**found, "working_dir": str(folder)} if folder else found


def job_storage(storage: str | None) -> str:
    """The storage of a job: a bucket, or an absolute folder on the head node.

    Raises:
        ConfigError: none, or a relative folder, which would vanish with the job's own folder.
    """
    needed = "give s3://BUCKET/…, gs://BUCKET/… or an absolute folder on the cluster's head node"
    if storage is None:
        raise ConfigError(f"--storage is missing: {needed}")
    if storage.startswith("~"):
        return storage  # the head node's home folder, not ours
    parsed = path_or_uri("--storage", storage)
    if not is_uri(parsed) and not Path(parsed).is_absolute():
        raise ConfigError(f"--storage {storage}: {needed}")
    return parsed


def words_of(options: Mapping[str, Sequence[str]]) -> list[str]:
    """Options with their values as words of a command line.

    Args:
        options: by the option's name, such as `--trials`, its values; none for a flag.
    """
    return [
        word
        for name, values in options.items()
        for word in ([w for value in values for w in (name, value)] or [name])
    ]
