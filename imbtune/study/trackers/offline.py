"""Uploads the runs that W&B has kept in files, with its own `wandb sync`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from imbtune.errors import ConfigError, StudyError
from imbtune.progress import Log
from imbtune.storage import Store
from imbtune.study.files import read_content
from imbtune.study.trackers.runs import study_id
from imbtune.study.trackers.wandb import KEY, SYNCED, has_key, why_silent

AT_ONCE = 200  # runs in one call of `wandb sync`
SECONDS = 60.0  # in which no run is uploaded, and `wandb sync` is ended; it tries for hours


def sync_offline(path: str, log: Log) -> None:
    """Upload a study's runs that W&B has not got, or not whole.

    No module of the study runs.

    Args:
        path: the study's folder or URI; a study in a bucket has its runs in the current folder.
        log: is called with a line for the user.

    Raises:
        StudyError: there is no study; it has no runs in files; some could not be uploaded.
        ConfigError: there is no API key of W&B.
    """
    identity = study_id(read_content(path))
    folder = (Store(path).local or Path.cwd()) / "wandb"
    runs = sorted(folder.glob(f"*run-*-{identity}-*"))
    if not runs:
        raise StudyError(
            f"{path} has no runs of W&B in {folder}: search with --wandb offline to keep some"
        )
    left = [run for run in runs if not _is_synced(run)]
    if left and not has_key("imbtune sync"):
        raise ConfigError(f"imbtune sync needs an API key of W&B: {KEY}")
    said = why_silent() if left else ""
    for start in range(0, 0 if said else len(left), AT_ONCE):
        some = left[start : start + AT_ONCE]
        said = _wandb_sync(some) or said
        if not any(map(_is_synced, some)):
            break  # W&B does not answer, or refuses
    missing = [run for run in left if not _is_synced(run)]
    if missing:
        raise StudyError(
            f"{len(missing)} of {len(runs)} runs of {path} could not be uploaded to W&B ({said}): "
            "run imbtune sync again when it answers"
        )
    there = f"; {len(runs) - len(left)} were there already" if len(left) < len(runs) else ""
    log(f"{len(left)} of {len(runs)} runs of {path} uploaded to W&B{there}.")


def _is_synced(run: Path) -> bool:
    """Whether a run's file is marked as uploaded, by W&B or by the search that sent it."""
    return any(run.glob(f"*.wandb{SYNCED}"))


def _wandb_sync(runs: list[Path]) -> str:
    """Run `wandb sync` on some folders of runs, and end it where it uploads none for `SECONDS`.

    Returns:
        The last line that it printed, or that it did not answer.
    """
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, runs)]
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command,
            env={**environment, "WANDB_MODE": "online"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # with the processes that it starts, which end with it
        )
        try:
            answered = _wait(process, runs)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not answered:
            return f"it uploaded nothing for {SECONDS:.0f} s"
        output.seek(0)
        lines = [line.strip() for line in output if line.strip()]
    return lines[-1] if lines else f"exit code {process.returncode}"


def _wait(process: subprocess.Popen[bytes], runs: Sequence[Path]) -> bool:
    """Wait until `wandb sync` ends; returns False where it has uploaded no run for `SECONDS`."""
    synced, since = 0, time.monotonic()
    while time.monotonic() - since < SECONDS:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
            return True
        if (now := sum(map(_is_synced, runs))) > synced:
            synced, since = now, time.monotonic()
    return False
