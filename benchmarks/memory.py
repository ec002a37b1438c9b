"""Memory of the actors that train, with one and with two trials at a time.

    python benchmarks/memory.py [--repeats 3]

Real searches of digits-lt; the memory of all their actors is read four times a second, and the
largest sum counts, divided by the trials at a time. PSS shares out what processes have in common,
such as libraries and Ray's object store; RSS counts it in each. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from searches import searching
from spread import Row, quartiles

TRIALS = 8
OTHERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")  # Ray's own processes

Figures = dict[str, Any]

ABOUT = (
    "The largest memory of the actors of a search of digits-lt, divided by its trials at a time. "
    "PSS shares out what processes have in common; RSS counts it in each."
)


def peak(at_once: int) -> dict[str, float]:
    """MiB a trial, PSS and RSS."""
    highest = {"Pss": 0.0, "Rss": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--max-concurrent", str(at_once), "--cpus-per-trial", "1", "--storage", folder]
        with searching(TRIALS, *options) as process:
            while process.poll() is None:
                for kind, value in actors(process).items():
                    highest[kind] = max(highest[kind], value / at_once)
                time.sleep(0.25)
    return highest


def actors(search: subprocess.Popen[bytes]) -> dict[str, float]:
    """MiB of all actors of a search that runs, PSS and RSS."""
    total = {"Pss": 0.0, "Rss": 0.0}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_text()
            if not name.startswith("ray::") or name.startswith(OTHERS):
                continue
            if not _is_below(folder, search.pid):
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # it ended while we looked
            continue
        sizes = dict(line.split(":") for line in lines[1:])
        for kind in total:
            total[kind] += int(sizes[kind].split()[0]) / 1024
    return total


def _is_below(folder: Path, ancestor: int) -> bool:
    """Whether a process of /proc descends from another."""
    pid = int(folder.name)
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def measure(repeats: int = 3) -> Figures:
    """Quartiles of MiB a trial by trials at a time, PSS and RSS."""
    rounds = [{at_once: peak(at_once) for at_once in (1, 2)} for _ in range(repeats)]
    return {
        str(at_once): {kind: quartiles([each[at_once][kind] for each in rounds]) for kind in kinds}
        for at_once, kinds in rounds[0].items()
    }


def rows(figures: Figures) -> list[Row]:
    """The table."""
    return [
        Row(f"{kind.upper()} a trial, {at_once} at a time, MiB", spread)
        for at_once, kinds in figures.items()
        for kind, spread in kinds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().repeats), indent=1))


if __name__ == "__main__":
    main()
