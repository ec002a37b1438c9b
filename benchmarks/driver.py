"""What the driver itself costs: a search of thousands of trials that take no time.

    python benchmarks/driver.py [--repeats 1] [--trials 10000]

The searcher, Optuna's journal, ASHA, the recorder and the Parquet tables are the real ones, on
digits-lt; only the training is made up. First with random draws and without Ray, 8 trials at a
time in simulated time; then a tenth of them through Ray Tune and 2 actors that train nothing; and a
tenth with TPE, whose own time is counted. CPU time of the driver a trial, for each tenth of the
trials, so that growth shows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from ray import tune
from ray.tune import Callback
from spread import Row, quartiles

from imbtune.data.splits import Images, Preprocessing, Splits
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.journal import open_journal
from imbtune.study.tables.parquet import ParquetSink
from imbtune.tuning import optuna_searcher as searching
from imbtune.tuning import tune as tune_run
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.cluster.connection import connected
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.forecast.simulate import Event, Step, simulate
from imbtune.tuning.messages import (
    SCORE,
    EpochReport,
    RungReport,
    TrialReport,
    TrialSpec,
    TuneDict,
)
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.recorder import Recorder
from imbtune.tuning.run_search import knob_types
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.worker.trial_runner import WorkerSettings

TENTHS, WORKERS, ACTORS, CLASSES, SEED = 10, 8, 2, 10, 0
ASKED = ("before_trial", "infer_relative_search_space", "sample_relative", "sample_independent")
DRAWN = (*ASKED, "after_trial")  # all that a sampler is called for

Figures = dict[str, Any]

ABOUT = (
    "Trials of digits-lt that take no time, with the real searcher, journal, ASHA, recorder and "
    "Parquet tables: 10,000 random ones without Ray; 1,000 through Ray Tune, on 2 actors that "
    "train nothing; and what TPE itself takes with 1,000. CPU time of the driver, and its memory. "
    "A trial has a row for each of up to 81 epochs."
)


# ---- trials that take no time --------------------------------------------------------------------


def reports(spec: TrialSpec, space: SearchSpace) -> list[TrialReport]:
    """What a worker would report of a trial: a report per rung, with its epochs."""
    (number,), (settings,) = spec.trials, spec.settings
    rng = np.random.default_rng(number)
    near = abs(np.log(float(settings["optimizer.lr"]) / 0.1))
    found, before = [], 0
    budgets = space.rungs.budgets(space.base().epochs)
    for index, budget in enumerate(budgets):
        score = float(0.8 - 0.1 * near + rng.normal(0, 0.05))
        metrics = {"balanced_accuracy": score, "accuracy": score}
        recall_K, now = [score] * CLASSES, time.time()
        epochs = [
            EpochReport(number, i + 1, "trunk", budget, 0.1, 1.0, metrics, recall_K, now)
            for i in range(before, budget)
        ]
        rung = RungReport(
            number, "cooldown", budget, score, budget, metrics, recall_K, {}, "here", 1.0, 1
        )
        found.append(TrialReport(epochs, [rung], index, budget == budgets[-1], "here", 0))
        before = budget
    return found


class InstantActor(tune.Trainable):
    """Stands in for the actor that trains."""

    def setup(
        self, config: dict[str, Any], splits: Any = None, worker_settings: Any = None
    ) -> None:
        self._space = load_space("digits-lt")
        self.reset_config(config)

    def reset_config(self, new_config: TuneDict) -> bool:
        self._reports = iter(reports(TrialSpec.from_tune(new_config), self._space))
        return True

    def step(self) -> TuneDict:
        return next(self._reports).to_tune(self._space.rungs.eta)


# ---- the driver, measured ------------------------------------------------------------------------


class Meter:
    """Counts trials as they end, and reads the clocks at every tenth of them."""

    def __init__(self, trials: int) -> None:
        self._every, self._ended = max(1, trials // TENTHS), 0
        self.sampler = 0.0  # CPU seconds in Optuna's sampler
        self.marks = [self._now()]

    def ended(self, _line: str) -> None:
        """A trial ended; what the recorder says of it is left unsaid."""
        self._ended += 1
        if self._ended % self._every == 0:
            self.marks.append(self._now())

    def metered(self, *given: Any) -> BaseSampler:
        """A sampler whose time is counted."""
        sampler = make_sampler(*given)
        for name in DRAWN:
            setattr(sampler, name, self._counted(getattr(sampler, name)))
        return sampler

    def figures(self) -> Figures:
        """For each tenth: milliseconds a trial of the sampler and of the rest, wall time, and MiB
        of the process at its end."""
        pairs = list(zip(self.marks, self.marks[1:], strict=False))

        def a_trial(name: str) -> list[float]:
            return [1000 * (after[name] - before[name]) / self._every for before, after in pairs]

        rest = [a - b for a, b in zip(a_trial("cpu"), a_trial("sampler"), strict=True)]
        memory = [after["memory"] for _, after in pairs]
        return {"sampler": a_trial("sampler"), "rest": rest, "wall": a_trial("wall")} | {
            "memory": memory
        }

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            before = time.thread_time()
            try:
                return call(*args, **options)
            finally:
                self.sampler += time.thread_time() - before

        return counted

    def _now(self) -> dict[str, float]:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return {
            **{"cpu": time.process_time(), "wall": time.monotonic()},
            **{"sampler": self.sampler, "memory": resident / 1024},
        }


def search(trials: int, sampler: str, run: Callable[..., None]) -> Figures:
    """A search of trials that take no time, driven by `run`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, meter = load_space("digits-lt"), Meter(trials)
    budgets = space.rungs.budgets(space.base().epochs)
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(searching, "make_sampler", meter.metered),
    ):
        store = Store(folder)
        with open_journal(store, "instant") as journal:
            searcher = OptunaSearcher(journal.study, space, trials, SEED, budgets[-1], sampler)
            scheduler = RungScheduler(budgets, space.rungs.eta, seed=SEED)
            recorder = Recorder(
                journal, store, space, SEED, trials, 0, scheduler.never_pruned, meter.ended
            )
            recorder.sinks.append(ParquetSink(store, knob_types(space)))
            run(space, searcher, scheduler, recorder, trials)
            recorder.close([])
    return meter.figures()


def simulated(
    space: SearchSpace,
    searcher: OptunaSearcher,
    scheduler: RungScheduler,
    recorder: Recorder,
    trials: int,
) -> None:
    """The calls that Tune makes, in its order, without Ray."""
    running: dict[int, Any] = {}

    def suggested() -> Iterator[TuneDict]:
        for i in range(trials):
            config = searcher.suggest(f"t{i}")
            running[i] = SimpleNamespace(trial_id=f"t{i}", config=config)
            recorder.on_trial_start(0, [], running[i])
            yield config

    def steps(config: TuneDict) -> list[Step]:
        found = reports(TrialSpec.from_tune(config), space)
        return [(float(len(r.epochs)), r.to_tune(space.rungs.eta)) for r in found]

    for event in simulate(scheduler, suggested(), steps, WORKERS):
        _tell(event, running[event.trial], searcher, recorder)
        if event.ended:
            del running[event.trial]


def _tell(event: Event, trial: Any, searcher: OptunaSearcher, recorder: Callback) -> None:
    if not event.ended:
        searcher.on_trial_result(trial.trial_id, event.result)
    recorder.on_trial_result(0, [], trial, event.result)
    if event.ended:
        searcher.on_trial_complete(trial.trial_id, event.result)
        recorder.on_trial_complete(0, [], trial)
    recorder.on_step_end(0, [])


def tuned(
    space: SearchSpace,
    searcher: OptunaSearcher,
    scheduler: RungScheduler,
    recorder: Recorder,
    trials: int,
) -> None:
    """Through Ray Tune, as a search runs it, on actors that train nothing."""
    none = Images(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    splits = Splits(none, none, ("digit",) * CLASSES, Preprocessing((0.5,), (0.5,)))
    worker_settings = WorkerSettings(
        "cooldown", space.rungs.budgets(space.base().epochs), space.rungs.eta, SCORE
    )
    with connected(None), patch.object(tune_run, "TrialActor", InstantActor):
        at_once = Resources(1, 0, ACTORS)
        tune_run.run_trials(splits, worker_settings, at_once, searcher, trials, recorder, scheduler)


# ---- figures -------------------------------------------------------------------------------------


def measure(repeats: int = 1, trials: int = 10_000) -> Figures:
    """Quartiles over the repeats for each tenth: without Ray, through Tune, and with TPE."""
    runs = {
        "simulated": (trials, "random", simulated),
        "tune": (trials // 10, "random", tuned),
        "tpe": (trials // 10, "tpe", simulated),
    }
    return {
        kind: {"trials": asked[0]} | over_repeats([search(*asked) for _ in range(repeats)])
        for kind, asked in runs.items()
    }


def over_repeats(found: list[Figures]) -> Figures:
    return {
        name: [quartiles(each) for each in zip(*(one[name] for one in found), strict=True)]
        for name in found[0]
    }


def rows(figures: Figures) -> list[Row]:
    """The table: the first and the last tenth of the trials."""
    table = []
    for kind, name, where in (
        ("simulated", "rest", "ours, without Ray"),
        ("tune", "rest", "ours and Tune's"),
        ("tpe", "sampler", "Optuna's TPE"),
    ):
        one = figures[kind]
        tenth = one["trials"] // TENTHS
        for at, which in ((0, "first"), (-1, "last")):
            what = f"{which} {tenth:,} of {one['trials']:,} trials"
            table.append(Row(f"{where}, {what}: ms a trial", one[name][at]))
            if kind != "tpe":
                table.append(Row("memory after them, MiB", one["memory"][at]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=10_000)
    options = parser.parse_args()
    print(json.dumps(measure(options.repeats, options.trials), indent=1))


if __name__ == "__main__":
    main()
