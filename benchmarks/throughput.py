"""Trials per hour of a whole search, compared with the same search as a plain script.

    python benchmarks/throughput.py [--repeats 3] [--trials 60]

`imbtune search digits-lt --finals 0` and plain_search.py alternate. Both have the same space,
images, network, epochs, rungs, number of trials and of concurrent trials, and are timed from the
start of the command to its end. Trained epochs are counted too, since both stop trials early.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from searches import search
from spread import Results, Row, print_results, quartiles

PLAIN = Path(__file__).parent / "plain_search.py"

ABOUT = (
    "`imbtune search digits-lt` against the same search as a plain script, "
    "`benchmarks/plain_search.py`: a training function, a DataLoader, Ray's ASHA, OptunaSearch, "
    "one process per trial, Tune's own loggers. The two alternate. No finals; timed from the start "
    "of the command to its end, Ray's start included."
)


def plain(trials: int) -> tuple[float, float]:
    """Run plain_search.py: seconds of the command, and trained epochs."""
    began = time.time()
    command = [sys.executable, str(PLAIN), "--trials", str(trials)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    seconds, summary = time.time() - began, json.loads(done.stdout.splitlines()[-1])
    if summary["errors"]:
        raise RuntimeError(f"{summary['errors']} trials of plain_search.py failed")
    return seconds, summary["epochs"]


def ours(trials: int, seed: int) -> tuple[float, float]:
    """Run `imbtune search`: seconds of the command, and trained epochs, cool-downs included."""
    done = search(trials, seed)
    return done.seconds, len(done.epochs)


def measure(repeats: int = 3, trials: int = 60) -> Results:
    """Quartiles: trials per hour and epochs of both searches, and the ratio of their times."""
    pairs = [(plain(trials), ours(trials, seed)) for seed in range(repeats)]
    return {
        "trials": trials,
        "plain": quartiles([3600 * trials / theirs[0] for theirs, _ in pairs]),
        "ours": quartiles([3600 * trials / mine[0] for _, mine in pairs]),
        "ratio": quartiles([theirs[0] / mine[0] for theirs, mine in pairs]),
        "plain_epochs": quartiles([theirs[1] for theirs, _ in pairs]),
        "our_epochs": quartiles([mine[1] for _, mine in pairs]),
    }


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    search_size = f"in a search of {results['trials']}"
    return [
        Row(f"trials per hour {search_size}, plain script", results["plain"]),
        Row(f"trials per hour {search_size}, imbtune", results["ours"]),
        Row("ratio", results["ratio"], "5"),
        Row("trained epochs, plain script", results["plain_epochs"]),
        Row("trained epochs, imbtune", results["our_epochs"]),
    ]


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=3, trials=60)
