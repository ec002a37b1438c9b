"""Runs trials with Ray Tune: from a searcher, on actors that are reused."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from imbtune.data.splits import Splits
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.common_failure import CommonFailure, last_line
from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict
from imbtune.tuning.packing.ray_hosts import packed_trainable
from imbtune.tuning.worker.ray_actor import TrialActor
from imbtune.tuning.worker.trial_runner import WorkerSettings


class SpecSearcher(Searcher, ABC):
    """A Ray Tune searcher that suggests TrialSpecs. It has no state for Ray to save."""

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")

    @abstractmethod
    def next_spec(self, trial_id: str) -> TrialSpec | None:
        """What to train next, or None where nothing is left.

        Args:
            trial_id: Ray's name for the trial.
        """

    def suggest(self, trial_id: str) -> Any:
        """The next spec as Ray Tune wants it."""
        spec = self.next_spec(trial_id)
        return Searcher.FINISHED if spec is None else spec.to_tune()

    def on_trial_complete(
        self, trial_id: str, result: TuneDict | None = None, error: bool = False
    ) -> None:
        """Does nothing; a subclass that learns from results overrides it."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the study's storage is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the study's storage is the record."""


class ListSearcher(SpecSearcher):
    """Suggests the specs of a list, one after another."""

    def __init__(self, specs: Iterable[TrialSpec]) -> None:
        super().__init__()
        self._specs = list(specs)

    def next_spec(self, trial_id: str) -> TrialSpec | None:
        """The next spec of the list."""
        return self._specs.pop(0) if self._specs else None


class TrialCallback(Callback):
    """What happens to trials, as typed messages. Ray Tune calls it in the driver, one at a time.

    When a trial ends, Tune tells the scheduler and the searcher before it calls `completed` or
    `failed`. For the last result of a trial, `reported` is called before the searcher is told.
    """

    def started(self, spec: TrialSpec) -> None:
        """A trial begins."""

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """A worker reported epochs, and perhaps a rung."""

    def completed(self, spec: TrialSpec) -> None:
        """The trial finished its last rung, or ASHA stopped it."""

    def failed(self, spec: TrialSpec, error: str) -> None:
        """The trial failed; `error` is the last line of its traceback."""

    def stepped(self) -> None:
        """Tune's event loop has made a step; also while no result comes in."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self.started(TrialSpec.from_tune(trial.config))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: TuneDict,
        **info: object,
    ) -> None:
        self.reported(TrialSpec.from_tune(trial.config), TrialReport.from_tune(result))

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self.completed(TrialSpec.from_tune(trial.config))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: object
    ) -> None:
        self.failed(TrialSpec.from_tune(trial.config), last_line(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: object) -> None:
        self.stepped()


def run_trials(
    splits: Splits,
    worker_settings: WorkerSettings,
    resources: Resources,
    searcher: Searcher,
    samples: int,
    callback: TrialCallback,
    scheduler: TrialScheduler | None = None,
    time_budget: float | None = None,
    common_failure: CommonFailure | None = None,
) -> None:
    """Train what the searcher suggests. Ray Tune's own files go to a temporary folder.

    Args:
        samples: the most that the searcher will suggest.
        scheduler: None to train everything to its end.
        time_budget: in seconds; None for no limit.
        common_failure: stops all trials where each fails for one reason; None to train them all.
    """
    watch = common_failure or CommonFailure(samples)
    # `watch` prints each kind of error once; without these, Ray prints it again for every trial
    os.environ |= {"TUNE_PRINT_ALL_TRIAL_ERRORS": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    with _temporary_folder() as folder, _trainable(splits, worker_settings, resources) as trainable:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler or FIFOScheduler(),
                num_samples=samples,
                max_concurrent_trials=resources.concurrent,
                time_budget_s=time_budget,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="imbtune",
                storage_path=folder,
                callbacks=[watch, callback],
                stop=common_failure,
                verbose=0,
                # it reports nothing; Ray's default in a notebook clears the cell's output
                progress_reporter=tune.CLIReporter(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


@contextmanager
def _temporary_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="imbtune-tune-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(
    splits: Splits, worker_settings: WorkerSettings, resources: Resources
) -> AbstractContextManager[Any]:
    if worker_settings.pack:
        return packed_trainable(splits, worker_settings, resources)
    return nullcontext(
        tune.with_parameters(TrialActor, splits=splits, worker_settings=worker_settings)
    )
