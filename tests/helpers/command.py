"""Running the installed `imbtune` as a user does, and looking at its processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from imbtune.cli.main import app

IMBTUNE = str(Path(sys.executable).parent / "imbtune")


def clean_environment() -> dict[str, str]:
    """Ours without what W&B leaves in it: a child would send its runs to our service."""
    return {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}


def run(*args: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """`imbtune ARGS` in `cwd`, to its end."""
    return subprocess.run(
        [IMBTUNE, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=clean_environment(),
    )


def start(*args: str, cwd: Path) -> subprocess.Popen[str]:
    """`imbtune ARGS` in `cwd`, left running; its output is a pipe."""
    return subprocess.Popen(
        [IMBTUNE, *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )


def descendants(pid: int) -> dict[int, str]:
    """The command lines of all processes below `pid`, by process id."""
    children: dict[int, list[int]] = {}
    names = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:  # it ended while we looked
            continue
        children.setdefault(parent, []).append(int(folder.name))
    found: dict[int, str] = {}
    front = [pid]
    while front:
        front = [child for parent in front for child in children.get(parent, [])]
        found |= {child: names[child] for child in front}
    return found


def invoke(*args: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of `imbtune ARGS`; a bug is raised."""
    result = CliRunner().invoke(app, list(args), catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def invoke_in(folder: Path, *args: str) -> str:
    """What `imbtune ARGS` prints in `folder`, in this process; it must succeed.

    For fixtures: a new process would import torch and Ray again, which takes 4 seconds.
    """
    with contextlib.chdir(folder):
        code, said, error = invoke(*args)
    assert code == 0, said + error
    return said


def in_new_process(code: str, cwd: Path | None = None) -> Any:
    """What `code` prints as JSON."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def succeed(*args: object) -> str:
    """What a command prints that ends with 0, run in this process."""
    code, out, err = invoke(*map(str, args))
    assert code == 0, err
    return out


def refused(*args: object) -> str:
    """The one line of an expected failure, run in this process."""
    code, _, err = invoke(*map(str, args))
    assert (code, len(err.splitlines())) == (2, 1), err
    return err
