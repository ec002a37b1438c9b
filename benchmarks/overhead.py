"""What a search costs beyond the training of its trials: before them, between them, after them.

    python benchmarks/overhead.py [--repeats 3] [--trials 40]

Each repeat is a whole `imbtune search digits-lt` with a seed of its own. Between trials: from the
end of an actor's first trial to the end of its last, less the seconds of training that the study's
table has for the trials in between, a trial. That is the same as the wall time of all actors less
all training, without the start and without waiting for the last trial.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from searches import Searched, search
from spread import Row, quartiles

Figures = dict[str, Any]

ABOUT = (
    "Whole searches of 40 trials on digits-lt, without finals. Between trials: wall time of the "
    "actors less the trials' own training seconds, a trial, from the end of each actor's first "
    "trial to the end of its last."
)


def between(done: Searched) -> float:
    """Milliseconds a trial."""
    trials, workers = done.trials, done.at_once
    first = trials["trial"] < workers  # one on each actor
    span = trials["ended"].nlargest(workers).sum() - trials.loc[first, "ended"].sum()
    rest = trials[~first]
    return 1000 * float(span - rest["seconds"].sum()) / len(rest)


def measure(repeats: int = 3, trials: int = 40) -> Figures:
    """Quartiles: milliseconds between trials, and seconds before the first and after the last."""
    found = [search(trials, seed) for seed in range(repeats)]
    return {
        "trials": trials,
        "between": quartiles([between(done) for done in found]),
        "before": quartiles([done.epochs["time"].min() - done.began for done in found]),
        "after": quartiles([done.ended - done.trials["ended"].max() for done in found]),
    }


def rows(figures: Figures) -> list[Row]:
    """The table."""
    return [
        Row("overhead a trial, ms", figures["between"], "< 50"),
        Row("from the command to the end of the first epoch, s", figures["before"], "< 8"),
        Row("from the end of the last trial to that of the command, s", figures["after"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args()
    print(json.dumps(measure(options.repeats, options.trials), indent=1))


if __name__ == "__main__":
    main()
