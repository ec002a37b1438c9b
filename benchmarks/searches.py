"""Run and time searches of digits-lt with the installed command."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

IMBTUNE = str(Path(sys.executable).parent / "imbtune")


@dataclass(frozen=True)
class Searched:
    """A search that has ended.

    Attributes:
        began: start of the command, in seconds since 1970.
        ended: end of the command, in seconds since 1970.
        at_once: number of concurrent trials.
        trials: the study's trials table, times in seconds since 1970.
        epochs: the study's epochs table, likewise.
    """

    began: float
    ended: float
    at_once: int
    trials: pd.DataFrame
    epochs: pd.DataFrame

    @property
    def seconds(self) -> float:
        """Wall time of the command."""
        return self.ended - self.began


@contextmanager
def searching(trials: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start `imbtune search digits-lt` without finals; on exit wait for its end.

    Raises:
        RuntimeError: the command failed.
    """
    arguments = ["search", "digits-lt", "--trials", str(trials), "--finals", "0", *options]
    with subprocess.Popen([IMBTUNE, *arguments], stdout=subprocess.DEVNULL) as process:
        yield process
    if process.returncode:
        raise RuntimeError(
            f"imbtune {' '.join(arguments)} failed with exit code {process.returncode}"
        )


def search(trials: int, seed: int = 0) -> Searched:
    """Run a search in a temporary folder and read its tables."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        with searching(trials, "--seed", str(seed), "--storage", folder):
            pass
        ended = time.time()
        study = Path(folder) / "digits-lt"
        at_once = yaml.safe_load((study / "study.yaml").read_text())["resources"]["concurrent"]
        tables = [_in_seconds(pd.read_parquet(study / t)) for t in ("trials", "epochs")]
    return Searched(began, ended, at_once, *tables)


def _in_seconds(table: pd.DataFrame) -> pd.DataFrame:
    for name in table.columns.intersection(["ended", "time"]):
        table[name] = table[name].astype("int64") / 1000  # the tables have milliseconds
    return table
