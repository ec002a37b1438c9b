"""Replay searches on recorded learning curves in simulated time: regret against compute.

    python benchmarks/search/replay.py
    python benchmarks/search/replay.py --recorded FOLDER --figure FILE --replays 50

For every replay the recorded configurations are resampled, so that no single one decides the
result. A search draws its trials from that population at random; all contenders of a replay draw
the same trials. Prints the tables of docs/benchmarks.md and draws its figure. Compute is counted in
full runs: the epochs that all workers have trained, divided by T. Time: epochs since the start,
divided by T.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import optuna
from contenders import ALL, MAIN, PLAIN, VARIANTS
from recorded import Floats, Recorded, calibration, names, read

from imbtune.tuning.forecast.simulate import Scheduler, Step, simulate
from imbtune.tuning.messages import TrialSpec, TuneDict

LIMITS = {1: 40, 8: 80, 64: 320, 1000: 2000}  # compute of a search in full runs, by workers
TRIALS = {1000: 2000}  # the most trials, by workers; other searches are limited by compute only
POINTS = {1: (4, 8, 12, 20, 40), 8: (8, 12, 20, 40, 80), 64: (64, 80, 96, 128, 320)}
TIMES = (1, 1.1, 1.25, 1.5, 2)  # in full runs; for the numbers of workers without POINTS


@dataclass(frozen=True)
class Replay:
    """The result of one search.

    Attributes:
        regret_G: regret at each compute of :func:`grid`.
        regret_at_time: regret at each of `TIMES`.
        started: number of trials that were started.
        finished: number of trials that reached the full budget.
        spent: total compute in full runs.
    """

    regret_G: Floats
    regret_at_time: Floats
    started: int
    finished: int
    spent: float


def grid(workers: int) -> Floats:
    """The compute at which regret is read, (G,): a log scale, and every point of the tables."""
    limit = LIMITS[workers]
    points = POINTS.get(workers, ())
    return np.unique(np.concatenate([np.geomspace(limit / 100, limit, 200), points]))


def replay(
    scheduler: Scheduler,
    paths: Sequence[Sequence[Step]],
    recorded: Recorded,
    workers: int,
    population: Sequence[int],
    trials: Iterable[int],
) -> Replay:
    """Simulate one search until its compute reaches the limit or there are no more trials.

    The incumbent is the finished trial with the best full-budget score that the search sees. Regret
    is the best true score of the population less that of the incumbent; before any trial has
    finished, less the population's mean true score.

    Args:
        scheduler: a new one.
        paths: the steps of every configuration.
        recorded: the scores.
        workers: number of concurrent trials.
        population: indices of configurations, with repetitions.
        trials: the configurations that the search draws from the population, in order.
    """
    full, own_N, truth_N = recorded.budgets[-1], recorded.own_N, recorded.truth_N
    truth_P = truth_N[list(population)]
    best, started, finished, spent = -np.inf, 0, 0, 0.0
    changes = [(0.0, 0.0, float(truth_P.max() - truth_P.mean()))]
    configs: Iterator[TuneDict] = (
        {**TrialSpec.single_run(i, {}, without_rungs=False).to_tune(), "config": n}
        for i, n in enumerate(trials)
    )
    for event in simulate(scheduler, configs, lambda config: paths[config["config"]], workers):
        compute, n = event.compute / full, int(event.result["config"])
        if compute > LIMITS[workers]:
            spent = LIMITS[workers]
            break
        spent, started = compute, max(started, event.trial + 1)
        if event.result["epoch"] < full:
            continue
        finished += 1
        if own_N[n] > best:
            best = float(own_N[n])
            changes.append((compute, event.time / full, float(truth_P.max() - truth_N[n])))
    compute_C, time_C, regret_C = np.array(changes).T
    regret_G, regret_at_time = (
        regret_C[np.searchsorted(at_C, points, side="right") - 1]
        for at_C, points in ((compute_C, grid(workers)), (time_C, TIMES))
    )
    return Replay(regret_G, regret_at_time, started, finished, spent)


def draws(configs: int, seed: int) -> tuple[list[int], Iterator[int]]:
    """A replay's population, as large as the table, and endless draws from it."""
    rng = np.random.default_rng(seed)
    population = rng.integers(configs, size=configs).tolist()
    return population, (population[i] for _ in count() for i in rng.integers(configs, size=1000))


@cache
def _table(folder: Path, name: str) -> Recorded:
    return read(folder, name)


@cache
def _paths(folder: Path, name: str, label: str) -> list[list[Step]]:
    return ALL[label].paths(_table(folder, name))


def run(task: tuple[str, str, int, int], folder: Path) -> Replay:
    """Run one replay; a task is data set, contender, workers and seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, label, workers, seed = task
    recorded = _table(folder, name)
    scheduler = ALL[label].scheduler(recorded, seed)
    population, trials = draws(len(recorded.own_N), seed)
    paths = _paths(folder, name, label)
    trials = islice(trials, TRIALS.get(workers))
    return replay(scheduler, paths, recorded, workers, population, trials)


@dataclass(frozen=True)
class Regret:
    """The S replays of a contender.

    Attributes:
        grid_G: compute in full runs.
        regret_SG: regret of each replay at each compute.
        regret_at_times: regret of each replay at each of `TIMES`.
        started: mean number of started trials.
        finished: mean number of finished trials.
        spent: mean compute in full runs.
    """

    grid_G: Floats
    regret_SG: Floats
    regret_at_times: Floats
    started: float
    finished: float
    spent: float

    def shown(self, workers: int) -> Floats:
        """Regret at the columns of the table for that number of workers; one row per replay."""
        if workers not in POINTS:
            return self.regret_at_times
        shown_SP: Floats = self.regret_SG[:, np.searchsorted(self.grid_G, POINTS[workers])]
        return shown_SP

    def reaches(self, regret: float) -> float:
        """The least compute from which the median stays at or below `regret`, or infinity."""
        above = np.flatnonzero(np.median(self.regret_SG, axis=0) > regret + 1e-12)
        first = above[-1] + 1 if len(above) else 0
        return float(self.grid_G[first]) if first < len(self.grid_G) else float("inf")


Regrets = dict[tuple[str, str, int], Regret]  # by data set, contender and number of workers


def replays(folder: Path, cases: list[tuple[str, str, int]], seeds: int, jobs: int) -> Regrets:
    """Run all replays of every case, on `jobs` processes."""
    tasks = [(*case, seed) for case in cases for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        results = pool.map(partial(run, folder=folder), tasks, chunksize=5)
    return {
        case: _gather(grid(case[2]), results[i * seeds : (i + 1) * seeds])
        for i, case in enumerate(cases)
    }


def _gather(grid_G: Floats, mine: list[Replay]) -> Regret:
    return Regret(
        grid_G,
        np.stack([r.regret_G for r in mine]),
        np.stack([r.regret_at_time for r in mine]),
        *(float(np.mean([getattr(r, c) for r in mine])) for c in ("started", "finished", "spent")),
    )


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    shown = (f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells)
    return f"| {' | '.join(shown)} |"


def head(*titles: str) -> str:
    """The head of a Markdown table."""
    return f"{row(*titles)}\n|---|{'---:|' * (len(titles) - 1)}"


def print_calibration(recorded: Recorded) -> None:
    """Print how well each rung ranks the configurations."""
    print(f"\n**{recorded.name}**: {len(recorded.own_N)} configurations\n")
    rows = list(calibration(recorded))
    print(head(*rows[0]))
    for line in rows:
        print(row(*line.values()))


def print_regrets(regrets: Regrets, name: str, labels: Iterable[str], workers: int) -> None:
    """Print the median and quartiles of regret, and the comparison with plain ASHA.

    `less plain ASHA` is the mean difference over the table's columns, ± its standard error over
    replays; `as good` the compute from which the median is as low as that of plain ASHA at its end.
    """
    print(f"\n**{name}, {workers} worker{'s' * (workers > 1)}**\n")
    columns = map(str, POINTS[workers]) if workers in POINTS else (f"{t:g} T" for t in TIMES)
    print(head("search", *columns, "trials", "finished", "compute", "less plain ASHA", "as good"))
    plain = regrets[name, PLAIN, workers]
    goal = float(np.median(plain.regret_SG[:, -1]))
    for label in labels:
        mine = regrets[name, label, workers]
        quartiles = np.percentile(mine.shown(workers), [25, 50, 75], axis=0).T
        cells = ["{1:.4f} ({0:.4f}–{2:.4f})".format(*q) for q in quartiles]
        counts = (f"{c:.0f}" for c in (mine.started, mine.finished, mine.spent))
        less_S = (mine.shown(workers) - plain.shown(workers)).mean(1)
        error = less_S.std(ddof=1) / len(less_S) ** 0.5
        reached = mine.reaches(goal)
        last = f"{reached:.3g}" if reached < float("inf") else "never"
        print(row(label, *cells, *counts, f"{less_S.mean():+.4f} ± {error:.4f}", last))


def draw(regrets: Regrets, data: list[str], counts: list[int], figure: Path) -> None:
    """Plot regret against compute: rows are data sets, columns worker counts, lines contenders."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    # Okabe and Ito's colour-blind safe colours; line styles differ too, for print in grey
    colours = ("#999999", "#000000", "#E69F00", "#56B4E9", "#0072B2", "#D55E00")
    styles = (":", "--", "-.", (0, (5, 1)), "-", "-")
    size = (3.7 * len(counts) + 0.6, 3.5 * len(data) + 0.6)
    fig, axes = plt.subplots(len(data), len(counts), figsize=size, squeeze=False, sharey="row")
    for axes_W, name in zip(axes, data, strict=True):
        for axis, workers in zip(axes_W, counts, strict=True):
            for label, colour, style in zip(MAIN, colours, styles, strict=True):
                mine = regrets[name, label, workers]
                run = mine.grid_G <= mine.spent
                low, median, high = np.percentile(mine.regret_SG[:, run], [25, 50, 75], axis=0)
                line = {"color": colour, "ls": style, "label": label, "lw": 1.6}
                axis.fill_between(mine.grid_G[run], low, high, color=colour, alpha=0.12, lw=0)
                axis.plot(mine.grid_G[run], median, **line)
            axis.set(xscale="log", xlabel="compute, full runs of all workers")
            axis.set_yscale("symlog", linthresh=0.01, linscale=1)
            axis.set_ylim(bottom=0)
            axis.set_title(f"{name}, {workers} worker{'s' * (workers > 1)}", fontsize=10)
        axes_W[0].set_ylabel("regret, balanced accuracy")
    axes[0, 0].legend(fontsize=8)
    fig.tight_layout()
    fig.savefig(figure, dpi=100)


def main() -> None:
    here = Path(__file__).resolve()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recorded", type=Path, default=here.parent / "recorded")
    parser.add_argument("--figure", type=Path, default=here.parents[2] / "docs/search-regret.png")
    parser.add_argument("--replays", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=list(LIMITS), choices=LIMITS)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    data = names(options.recorded)
    for name in data:
        print_calibration(_table(options.recorded, name))
    main_cases = [(d, c, w) for d in data for c in MAIN for w in options.workers]
    variants = [(d, c, 1) for d in data for c in VARIANTS if 1 in options.workers]
    regrets = replays(options.recorded, [*main_cases, *variants], options.replays, options.jobs)
    for name in data:
        recorded = _table(options.recorded, name)
        seen = recorded.truth_N.max() - recorded.truth_N[recorded.own_N.argmax()]
        print(
            f"\n{name}: a search without limits, which picks the best score, has regret {seen:.4f}"
        )
        for workers in options.workers:
            print_regrets(regrets, name, MAIN, workers)
        if 1 in options.workers:
            print_regrets(regrets, name, [PLAIN, *VARIANTS], 1)
    draw(regrets, data, options.workers, options.figure)


if __name__ == "__main__":
    main()
