"""CPU time and memory of the driver, in searches of thousands of trials that train nothing.

    python benchmarks/driver.py [--repeats 1] [--trials 10000]

The searcher, Optuna's journal, ASHA, the recorder and the Parquet tables are the real ones, on the
space of digits-lt; only the scores are made up. Three searches: with random draws and without Ray,
8 concurrent trials in simulated time; a tenth of the trials through Ray Tune on 2 workers that
train nothing; and a tenth with TPE, whose own time is measured. The CPU time per trial is given for
each tenth of the trials, to show how it grows.
"""

from __future__ import annotations

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
from spread import Results, Row, print_results, quartiles

from imbtune.data.splits import Images, Preprocessing, Splits
from imbtune.progress.reporter import to_lines
from imbtune.spaces.knob_types import knob_types
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.journal import open_journal
from imbtune.study.records import Machine
from imbtune.study.tables.parquet import ParquetSink
from imbtune.tuning import optuna_searcher as searching
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.cluster.connection import connected
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.execution import run_trials as tune_run
from imbtune.tuning.execution.events import FailureLimits
from imbtune.tuning.forecast.simulate import Event, Step, simulate
from imbtune.tuning.messages import (
    EpochReport,
    RungReport,
    TrialReport,
    TrialSpec,
    TuneDict,
)
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.study_writer import StudyWriter
from imbtune.tuning.worker.trial_runner import WorkerSettings

TENTHS, WORKERS, ACTORS, CLASSES, SEED = 10, 8, 2, 10, 0
SAMPLER_METHODS = (  # all that Optuna calls
    "before_trial",
    "infer_relative_search_space",
    "sample_relative",
    "sample_independent",
    "after_trial",
)

ABOUT = (
    "CPU time and memory of the driver, with trials of digits-lt that train nothing and the real "
    "searcher, journal, ASHA, writer and Parquet tables: 10,000 random trials without Ray; 1,000 "
    "through Ray Tune on 2 workers; and the time of TPE itself in 1,000 trials. Each trial reports "
    "up to 81 epochs."
)


# ---- trials that train nothing -------------------------------------------------------------------


def reports(spec: TrialSpec, space: SearchSpace) -> list[TrialReport]:
    """The reports that a worker would send for a trial: one per rung, with its epochs."""
    (number,), (settings,) = spec.trials, spec.settings
    rng = np.random.default_rng(number)
    distance = abs(np.log(float(settings["optimizer.lr"]) / 0.1))
    found, before = [], 0
    budgets = space.rungs.budgets(space.base().epochs)
    for index, budget in enumerate(budgets):
        score = float(0.8 - 0.1 * distance + rng.normal(0, 0.05))
        metrics = {"balanced_accuracy": score, "accuracy": score}
        recall_K, now = [score] * CLASSES, time.time()
        epochs = [
            EpochReport(number, i + 1, "trunk", budget, 0.1, 1.0, metrics, recall_K, now)
            for i in range(before, budget)
        ]
        rung = RungReport(
            number, "cooldown", budget, score, budget, metrics, recall_K, {}, "here", 1.0, 1
        )
        is_last = budget == budgets[-1]
        found.append(TrialReport(epochs, [rung], index, is_last, Machine("here"), now))
        before = budget
    return found


class InstantActor(tune.Trainable):
    """Replaces the actor that trains: reports made-up scores at once."""

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


# ---- measuring the driver ------------------------------------------------------------------------


class Meter:
    """Counts ended trials, and reads clocks and memory after every tenth of the trials."""

    def __init__(self, trials: int) -> None:
        self._every, self._ended = max(1, trials // TENTHS), 0
        self.sampler = 0.0  # CPU seconds spent in Optuna's sampler
        self.marks = [self._now()]

    def ended(self, _line: str) -> None:
        """Count a trial; `_line`, the recorder's message about it, is not printed."""
        self._ended += 1
        if self._ended % self._every == 0:
            self.marks.append(self._now())

    def metered(self, *given: Any) -> BaseSampler:
        """As `make_sampler`, with a sampler that adds its CPU time to `self.sampler`."""
        sampler = make_sampler(*given)
        for name in SAMPLER_METHODS:
            setattr(sampler, name, self._timed(getattr(sampler, name)))
        return sampler

    def results(self) -> Results:
        """A value for each tenth of the trials.

        `sampler` and `rest`: CPU time in the sampler and outside, ms per trial. `wall`: wall time,
        ms per trial. `memory`: resident memory of the process after it, MiB.
        """
        pairs = list(zip(self.marks, self.marks[1:], strict=False))

        def per_trial(name: str) -> list[float]:
            return [1000 * (after[name] - before[name]) / self._every for before, after in pairs]

        rest = [a - b for a, b in zip(per_trial("cpu"), per_trial("sampler"), strict=True)]
        memory = [after["memory"] for _, after in pairs]
        return {
            "sampler": per_trial("sampler"),
            "rest": rest,
            "wall": per_trial("wall"),
            "memory": memory,
        }

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            before = time.thread_time()
            try:
                return call(*args, **options)
            finally:
                self.sampler += time.thread_time() - before

        return timed

    def _now(self) -> dict[str, float]:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return {
            "cpu": time.process_time(),
            "wall": time.monotonic(),
            "sampler": self.sampler,
            "memory": resident / 1024,
        }


def search(trials: int, sampler: str, run: Callable[..., None]) -> Results:
    """Measure a search of trials that train nothing.

    Args:
        trials: number of trials.
        sampler: as in `imbtune search --sampler`.
        run: :func:`simulated` or :func:`tuned`.
    """
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
            recorder = StudyWriter(
                journal, store, space, SEED, scheduler.cutoffs, to_lines(meter.ended), {}
            )
            recorder.sinks.append(ParquetSink(store, knob_types(space)))
            run(space, searcher, scheduler, recorder, trials)
            recorder.close([])
    return meter.results()


def simulated(
    space: SearchSpace,
    searcher: OptunaSearcher,
    scheduler: RungScheduler,
    recorder: StudyWriter,
    trials: int,
) -> None:
    """Run the trials without Ray: the calls that Tune makes, in the same order."""
    running: dict[int, Any] = {}

    def suggested() -> Iterator[TuneDict]:
        for i in range(trials):
            config = searcher.suggest(f"t{i}")
            running[i] = SimpleNamespace(trial_id=f"t{i}", config=config)
            recorder.started(TrialSpec.from_tune(config))
            yield config

    def steps(config: TuneDict) -> list[Step]:
        found = reports(TrialSpec.from_tune(config), space)
        return [(float(len(r.epochs)), r.to_tune(space.rungs.eta)) for r in found]

    for event in simulate(scheduler, suggested(), steps, WORKERS):
        _tell(event, running[event.trial], searcher, recorder)
        if event.ended:
            del running[event.trial]


def _tell(event: Event, trial: Any, searcher: OptunaSearcher, recorder: StudyWriter) -> None:
    spec = TrialSpec.from_tune(trial.config)
    if not event.ended:
        searcher.on_trial_result(trial.trial_id, event.result)
    recorder.reported(spec, TrialReport.from_tune(event.result))
    if event.ended:
        searcher.on_trial_complete(trial.trial_id, event.result)
        recorder.completed(spec)
    recorder.stepped()


def tuned(
    space: SearchSpace,
    searcher: OptunaSearcher,
    scheduler: RungScheduler,
    recorder: StudyWriter,
    trials: int,
) -> None:
    """Run the trials through Ray Tune, as a search does, on workers that train nothing."""
    none = Images(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64))
    splits = Splits(none, none, ("digit",) * CLASSES, Preprocessing((0.5,), (0.5,)))
    worker_settings = WorkerSettings(
        "cooldown", space.rungs.budgets(space.base().epochs), space.rungs.eta, space.objectives
    )
    with connected(None), patch.object(tune_run, "TrialActor", InstantActor):
        at_once = Resources(1, 0, ACTORS)
        tune_run.run_trials(
            splits, worker_settings, at_once, searcher, trials, recorder, FailureLimits(), scheduler
        )


# ---- results -------------------------------------------------------------------------------------


def measure(repeats: int = 1, trials: int = 10_000) -> Results:
    """Quartiles over the repeats for each tenth: without Ray, through Tune, and with TPE."""
    runs = {
        "simulated": (trials, "random", simulated),
        "tune": (trials // 10, "random", tuned),
        "tpe": (trials // 10, "tpe", simulated),
    }
    return {
        kind: {"trials": arguments[0]} | over_repeats([search(*arguments) for _ in range(repeats)])
        for kind, arguments in runs.items()
    }


def over_repeats(repeats: list[Results]) -> Results:
    """Quartiles over the repeats of each value for each tenth."""
    return {
        name: [quartiles(each) for each in zip(*(one[name] for one in repeats), strict=True)]
        for name in repeats[0]
    }


def rows(results: Results) -> list[Row]:
    """The rows of the table, for the first and the last tenth of the trials."""
    table = []
    for kind, name, where in (
        ("simulated", "rest", "driver without Ray"),
        ("tune", "rest", "driver with Ray Tune"),
        ("tpe", "sampler", "Optuna's TPE"),
    ):
        one = results[kind]
        tenth = one["trials"] // TENTHS
        for at, which in ((0, "first"), (-1, "last")):
            what = f"{which} {tenth:,} of {one['trials']:,} trials"
            table.append(Row(f"{where}, {what}: ms per trial", one[name][at]))
            if kind != "tpe":
                table.append(Row("process memory after them, MiB", one["memory"][at]))
    return table


if __name__ == "__main__":
    print_results(measure, __doc__, repeats=1, trials=10_000)
