"""The one call of Ray Tune: trials from a searcher, on actors that are reused."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from imbtune.data.splits import Splits
from imbtune.registry import Value
from imbtune.search.cluster.resources import Resources
from imbtune.search.packing.ray_hosts import packed
from imbtune.search.worker.ray_actor import TrialActor
from imbtune.search.worker.trial_runner import WorkerSettings


def fit(
    splits: Splits,
    worker_settings: WorkerSettings,
    resources: Resources,
    searcher: Searcher,
    samples: int,
    callback: Callback,
    scheduler: TrialScheduler | None = None,
    time_budget: float | None = None,
) -> None:
    """Train what the searcher suggests. What Tune itself writes goes to a scratch folder.

    Args:
        samples: the most that the searcher will suggest.
        scheduler: none to train everything to its end.
    """
    with _scratch() as scratch, _trainable(splits, worker_settings, resources) as trainable:
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
                storage_path=scratch,
                callbacks=[callback],
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


@contextmanager
def _scratch() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="imbtune-tune-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(
    splits: Splits, worker_settings: WorkerSettings, resources: Resources
) -> AbstractContextManager[Any]:
    if worker_settings.pack:
        return packed(splits, worker_settings, resources)
    return nullcontext(
        tune.with_parameters(TrialActor, splits=splits, worker_settings=worker_settings)
    )


class GivenRuns(Searcher):
    """Suggests the runs of a list, one after another."""

    def __init__(self, runs: Iterable[Mapping[str, Any]]) -> None:
        super().__init__(metric="score", mode="max")
        self._runs = list(runs)

    def suggest(self, trial_id: str) -> Any:
        """The next run, or FINISHED."""
        return self._runs.pop(0) if self._runs else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: no run follows from another."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def one_run(number: int, settings: Mapping[str, Value], whole: bool) -> dict[str, Any]:
    """What an actor is told to train a single configuration from the start."""
    return {
        "number": number,
        "preset": None,
        "trials": [number],
        "settings": [dict(settings)],
        "reached": 0,
        "images": [0],
        "seconds": [0.0],
        "trained": 0,
        "whole": whole,
    }
