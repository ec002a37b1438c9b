"""Memory of the worker processes, with one and with two concurrent trials.

    python benchmarks/memory.py [--repeats 3]

Real searches of digits-lt. The memory of all their workers is read four times per second; the
result is the largest sum, divided by the number of concurrent trials. PSS divides memory that
processes share (libraries, Ray's object store) among them; RSS counts it in each. Linux only.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from searches import searching
from spread import Results, Row, print_results, quartiles

TRIALS = 8
OTHERS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")  # Ray's own processes

ABOUT = (
    "Peak memory of the workers of a search of digits-lt, divided by the number of concurrent "
    "trials. PSS divides memory that processes share among them; RSS counts it in each."
)


def peak(at_once: int) -> dict[str, float]:
    """Peak PSS and RSS of a search with `at_once` concurrent trials, in MiB per trial."""
    highest = {"Pss": 0.0, "Rss": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        options = ["--max-concurrent", str(at_once), "--cpus-per-trial", "1", "--storage", folder]
        with searching(TRIALS, *options) as process:
            while process.poll() is None:
                for kind, value in workers(process).items():
                    highest[kind] = max(highest[kind], value / at_once)
                time.sleep(0.25)
    return highest


def workers(search: subprocess.Popen[bytes]) -> dict[str, float]:
    """PSS and RSS of all workers of a running search, in MiB."""
    total = {"Pss": 0.0, "Rss": 0.0}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_text()
            if not name.startswith("ray::") or name.startswith(OTHERS):
                continue
            if not _is_below(folder, search.pid):
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # the process has ended in the meantime
            continue
        sizes = dict(line.split(":") for line in lines[1:])
        for kind in total:
            total[kind] += int(sizes[kind].split()[0]) / 1024
    return total


def _is_below(folder: Path, ancestor: int) -> bool:
    """Whether the process of a folder in /proc is `ancestor` or a descendant of it."""
    pid = int(folder.name)
    while pid > 1 and pid != ancestor:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid == ancestor


def measure(repeats: int = 3) -> Results:
    """Quartiles of MiB per trial, PSS and RSS, by the number of concurrent trials."""
    rounds = [{at_once: peak(at_once) for at_once in (1, 2)} for _ in range(repeats)]
    return {
        str(at_once): {kind: quartiles([each[at_once][kind] for each in rounds]) for kind in kinds}
        for at_once, kinds in rounds[0].items()
    }


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    return [
        Row(f"{kind.upper()} per trial, {at_once} concurrent, MiB", spread)
        for at_once, kinds in results.items()
        for kind, spread in kinds.items()
    ]


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=3)
