"""Time of a search beyond the training of its trials: before, between and after them.

    python benchmarks/overhead.py [--repeats 3] [--trials 40]

Each repeat is a whole `imbtune search digits-lt` with its own seed. The overhead between trials is
the wall time of a worker from the end of its first trial to the end of its last, less the training
seconds of the trials in between (a column of the study's table), divided by their number. It
excludes the start of the workers and the time in which a worker waits for the last trial of others.
"""

from __future__ import annotations

from searches import Searched, search
from spread import Results, Row, print_results, quartiles

ABOUT = (
    "Whole searches of 40 trials on digits-lt, without finals. The overhead per trial is the "
    "workers' wall time, from the end of each worker's first trial to the end of its last, less "
    "the training time of the trials in between, divided by their number."
)


def between(done: Searched) -> float:
    """The overhead between trials, in milliseconds per trial."""
    trials, workers = done.trials, done.at_once
    first = trials["trial"] < workers  # one on each worker
    span = trials["ended"].nlargest(workers).sum() - trials.loc[first, "ended"].sum()
    rest = trials[~first]
    return 1000 * float(span - rest["seconds"].sum()) / len(rest)


def measure(repeats: int = 3, trials: int = 40) -> Results:
    """Quartiles: overhead in ms per trial; seconds before the first and after the last trial."""
    found = [search(trials, seed) for seed in range(repeats)]
    return {
        "trials": trials,
        "between": quartiles([between(done) for done in found]),
        "before": quartiles([done.epochs["time"].min() - done.began for done in found]),
        "after": quartiles([done.ended - done.trials["ended"].max() for done in found]),
    }


def rows(results: Results) -> list[Row]:
    """The rows of the table."""
    return [
        Row("overhead per trial, ms", results["between"], "< 50"),
        Row(
            "from the start of the command to the end of the first epoch, s",
            results["before"],
            "< 8",
        ),
        Row("from the end of the last trial to the end of the command, s", results["after"]),
    ]


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=3, trials=40)
