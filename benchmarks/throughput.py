"""Trials an hour of a whole search, against the same search written plainly.

    python benchmarks/throughput.py [--repeats 3] [--trials 60]

`imbtune search digits-lt --finals 0` and plain_search.py in turn: the same space, images, network,
epochs, rungs, number of trials and trials at a time, from the command to its end. The epochs that
were trained are counted too, since both stop trials by what they see.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from searches import search
from spread import Row, quartiles

PLAIN = Path(__file__).parent / "plain_search.py"

Figures = dict[str, Any]

ABOUT = (
    "`imbtune search digits-lt` and `benchmarks/plain_search.py`, in turn: the same search as "
    "people write it (a function that trains, a DataLoader, Ray's ASHA, OptunaSearch, a process a "
    "trial, Tune's own loggers). No finals; from the command to its end, Ray's start included."
)


def plain(trials: int) -> tuple[float, float]:
    """Seconds of the command, and epochs trained."""
    began = time.time()
    command = [sys.executable, str(PLAIN), "--trials", str(trials)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    seconds, said = time.time() - began, json.loads(done.stdout.splitlines()[-1])
    if said["errors"]:
        raise RuntimeError(f"{said['errors']} trials of plain_search.py failed")
    return seconds, said["epochs"]


def ours(trials: int, seed: int) -> tuple[float, float]:
    """Seconds of the command, and epochs trained, cool-downs of all rungs included."""
    done = search(trials, seed)
    return done.seconds, len(done.epochs)


def measure(repeats: int = 3, trials: int = 60) -> Figures:
    """Quartiles: trials an hour and epochs of both, and the ratios."""
    pairs = [(plain(trials), ours(trials, seed)) for seed in range(repeats)]
    return {
        "trials": trials,
        "plain": quartiles([3600 * trials / theirs[0] for theirs, _ in pairs]),
        "ours": quartiles([3600 * trials / mine[0] for _, mine in pairs]),
        "ratio": quartiles([theirs[0] / mine[0] for theirs, mine in pairs]),
        "plain_epochs": quartiles([theirs[1] for theirs, _ in pairs]),
        "our_epochs": quartiles([mine[1] for _, mine in pairs]),
    }


def rows(figures: Figures) -> list[Row]:
    """The table."""
    searched = f"of a search of {figures['trials']}"
    return [
        Row(f"trials an hour {searched}, written plainly", figures["plain"]),
        Row(f"trials an hour {searched}, imbtune", figures["ours"]),
        Row("ratio", figures["ratio"], "5"),
        Row("epochs trained, written plainly", figures["plain_epochs"]),
        Row("epochs trained, imbtune", figures["our_epochs"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()
    print(json.dumps(measure(options.repeats, options.trials), indent=1))


if __name__ == "__main__":
    main()
