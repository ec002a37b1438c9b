"""Runs trials with Ray Tune: from a searcher, on actors that are reused."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from ray import tune
from ray.tune import TuneError
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.stopper import CombinedStopper

from imbtune.data.splits import Splits
from imbtune.errors import ImbtuneError
from imbtune.storage.temporary import temporary_folder
from imbtune.tuning.cluster.growth import ConcurrencyOfCluster
from imbtune.tuning.cluster.resources import Resources
from imbtune.tuning.execution.common_failure import CommonFailure
from imbtune.tuning.execution.events import FailureLimits, TrialCallback, TrialEvents
from imbtune.tuning.execution.interrupts import Interrupts
from imbtune.tuning.execution.spec_searcher import SpecSearcher
from imbtune.tuning.packing.ray_hosts import packed_trainable
from imbtune.tuning.worker.ray_actor import TrialActor
from imbtune.tuning.worker.trial_runner import WorkerSettings

CONTROLLER = "ray.tune.execution.tune_controller"  # the logger of Tune's event loop


def run_trials(
    splits: Splits,
    worker_settings: WorkerSettings,
    resources: Resources,
    searcher: SpecSearcher,
    samples: int,
    callback: TrialCallback,
    limits: FailureLimits,
    scheduler: TrialScheduler | None = None,
    time_budget: float | None = None,
    common_failure: CommonFailure | None = None,
) -> bool:
    """Train what the searcher suggests. Ray Tune's own files go to a temporary folder.

    Args:
        samples: how many trials the searcher suggests at most, not counting those that it suggests
            again because their worker was lost.
        limits: how often a trial is trained again.
        scheduler: None to train everything to its end.
        time_budget: in seconds; None for no limit.
        common_failure: stops all trials where each fails for one reason; None to train them all.

    Returns:
        Whether the user interrupted the trials (Ctrl-C, SIGTERM).
    """
    watch = common_failure or CommonFailure(samples)
    # `watch` prints each kind of error once; without these, Ray prints it again for every trial
    os.environ |= {"TUNE_PRINT_ALL_TRIAL_ERRORS": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)
    with (
        _expected_errors(),
        temporary_folder("tune") as folder,
        _trainable(splits, worker_settings, resources) as trainable,
        Interrupts() as interrupts,
    ):
        limiter = ConcurrencyLimiter(searcher, resources.concurrent)
        growth = ConcurrencyOfCluster(limiter, resources)
        stoppers = [interrupts, *([common_failure] if common_failure else [])]
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=limiter,
                scheduler=scheduler or FIFOScheduler(),
                num_samples=-1,  # the searcher says when nothing is left
                time_budget_s=time_budget,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="imbtune",
                storage_path=str(folder),
                callbacks=[TrialEvents(searcher, [watch, callback], limits, growth)],
                stop=CombinedStopper(*stoppers),
                verbose=0,
                # it reports nothing; Ray's default in a notebook clears the cell's output
                progress_reporter=tune.CLIReporter(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        return interrupts.stop_all()


class _NoExpectedErrors(logging.Filter):
    """Keeps expected errors of callbacks and searchers, which are raised again, out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], ImbtuneError))


@contextmanager
def _expected_errors() -> Iterator[None]:
    """Raise the expected error of a callback or searcher, which Tune puts into a traceback."""
    controller, quiet = logging.getLogger(CONTROLLER), _NoExpectedErrors()
    controller.addFilter(quiet)
    try:
        yield
    except TuneError as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, ImbtuneError):
            cause = cause.__cause__ or cause.__context__
        if cause:
            raise cause from None
        raise
    finally:
        controller.removeFilter(quiet)


def _trainable(
    splits: Splits, worker_settings: WorkerSettings, resources: Resources
) -> AbstractContextManager[Any]:
    if worker_settings.pack:
        return packed_trainable(splits, worker_settings, resources)
    return nullcontext(
        tune.with_parameters(TrialActor, splits=splits, worker_settings=worker_settings)
    )
