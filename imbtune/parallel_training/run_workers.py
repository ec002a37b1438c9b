"""Trains each seed of a final training on several workers, with Ray Train's TorchTrainer."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray
from ray.train import (
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import CheckpointError, ClusterError, ConfigError
from imbtune.final_training.final_run import FinishedSeed
from imbtune.final_training.final_task import FinalTask
from imbtune.final_training.seed_training import (
    Ended,
    SeedTrainer,
    diverging_seed,
    newest_checkpoint,
    seed_run,
    seed_started,
)
from imbtune.parallel_training.mailbox import (
    Failed,
    MailboxHandle,
    Message,
    Saved,
    Started,
    Trained,
)
from imbtune.parallel_training.worker_loop import WorkerTask, lost_another, train_worker
from imbtune.parallel_training.worker_share import WorkerShare, plan_workers
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import EpochsTrained
from imbtune.storage.temporary import temporary_folder
from imbtune.study.checkpoints import save_checkpoint
from imbtune.training.distributed.per_sample import check_per_sample
from imbtune.training.phases import steps_per_epoch
from imbtune.tuning.cluster.address import check_address
from imbtune.tuning.cluster.connection import (
    cluster_nodes,
    connected,
    local_node,
)

MAX_FAILURES = 3  # times that the workers of a seed are started again
LONGEST_REASON = 200  # characters of Ray's in a message
POLL_SECONDS = 0.2
START_SECONDS = "600"  # for workers to start; Ray Train would give up after 60 s
STOP_SECONDS = 60  # for Ray Train to end its workers after a seed


@dataclass(frozen=True)
class WorkerGroup:
    """How a final training is spread; given to :func:`imbtune.final_training.retrain.train_final`.

    Attributes:
        size: number of workers.
        address: of a Ray cluster; None for this machine.
        checkpoint_seconds: at least so much time lies between two checkpoints.
    """

    size: int
    address: str | None = None
    checkpoint_seconds: float = 60.0

    def check(self) -> None:
        """Check what can be checked before the data are loaded.

        Raises:
            ImbtuneError: more workers than this machine has CPUs or GPUs, or a wrong address.
        """
        check_address(self.address)
        if not self.address:
            plan_workers([local_node()], self.size, "this machine")

    @contextmanager
    def __call__(self, task: FinalTask) -> Iterator[SeedTrainer]:
        """Connect to Ray, and bring the images to its object store; disconnect on exit.

        Args:
            task: what is trained.

        Raises:
            ImbtuneError: no cluster, too few resources, or a run that several workers cannot train.
        """
        splits = task.splits
        _, batch = steps_per_epoch(len(splits.train), task.config.batch_size)
        if self.size > batch:
            raise ConfigError(
                f"--workers {self.size}: a batch has {batch} images: give at most {batch}"
            )
        check_per_sample(task.config, splits)
        with connected(self.address):
            share = plan_workers(cluster_nodes(), self.size, "the cluster")
            yield _Trainer(self, share, task, ray.put(splits))


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains seeds while Ray is connected."""

    group: WorkerGroup
    share: WorkerShare
    task: FinalTask
    stored: ray.ObjectRef[Splits] = field(repr=False)
    at_a_time: int = 1

    @property
    def place(self) -> str:
        """For a line of progress."""
        size = self.group.size
        return f"{size} worker{'s' * (size > 1)} with {self.share} each"

    def __call__(self, configs: Sequence[TrainConfig], reporter: Reporter, ended: Ended) -> None:
        """Train one seed after another.

        Raises:
            ImbtuneError: of a worker: the run diverged, an image cannot be read.
            ClusterError: workers died, more often than they are started again.
        """
        for config in configs:
            with diverging_seed(config.seed):
                finished = self._train(config, reporter)
            ended(finished)

    def _train(self, config: TrainConfig, reporter: Reporter) -> FinishedSeed:
        mailbox = MailboxHandle()
        checkpoint, before = newest_checkpoint(self.task, config.seed, reporter)
        if checkpoint:
            mailbox.save(before, checkpoint)
            mailbox.take()
        reporter.tell(seed_started(config, self.task.splits, reporter.now(), before))
        task = WorkerTask(
            config.flat(),
            self.task.imports,
            self.stored,
            mailbox,
            self.share.cpus,
            bool(self.share.gpus),
            self.group.checkpoint_seconds,
            self.task.options.ema,
            self.task.objectives,
        )
        with _ray_trains_folder() as folder:
            fit = _Fit(self._torch_trainer(task, folder))
            starts, trained, finished = 0, 0, None
            while finished is None:
                is_running = fit.thread.is_alive()  # before the messages: else the last are missed
                for message in mailbox.take():
                    if isinstance(message, Started):
                        starts += 1
                        if starts > 1:
                            reporter(f"seed {config.seed}: {_again(message)}")
                            start, now = message.trained, reporter.now()
                            reporter.tell(seed_started(config, self.task.splits, now, start))
                        trained = message.trained
                    if isinstance(message, Saved):
                        self._keep(config.seed, mailbox, reporter)
                    if isinstance(message, Trained):
                        new, trained, now = message.epoch - trained, message.epoch, reporter.now()
                        run = seed_run(config)
                        reporter.tell(EpochsTrained(now, run, new, trained, message.loss))
                    finished = _read(message) or finished
                reporter.tick()
                if finished is None and not is_running:
                    raise self._gave_up(fit.error, config)
                time.sleep(POLL_SECONDS)
            fit.thread.join(STOP_SECONDS)
        mailbox.close()
        return finished

    def _keep(self, seed: int, mailbox: MailboxHandle, reporter: Reporter) -> None:
        """Write the newest checkpoint to the folder of the training."""
        found = mailbox.checkpoint()
        if found is None:
            return
        content, trained = found
        try:
            save_checkpoint(str(self.task.out), seed, trained, content)
        except CheckpointError as error:
            reporter(f"seed {seed}: {error}")

    def _torch_trainer(self, task: WorkerTask, folder: str) -> TorchTrainer:
        resources = {"CPU": self.share.cpus, "GPU": self.share.gpus}
        return TorchTrainer(
            train_worker,
            train_loop_config={"task": task},
            scaling_config=ScalingConfig(
                num_workers=self.group.size,
                use_gpu=bool(self.share.gpus),
                resources_per_worker={name: n for name, n in resources.items() if n},
            ),
            run_config=RunConfig(
                name="imbtune",
                storage_path=folder,
                failure_config=FailureConfig(max_failures=MAX_FAILURES),
                logging_config=LoggingConfig(log_level="CRITICAL"),  # type: ignore[call-arg]
            ),
        )

    def _gave_up(self, error: Exception | None, config: TrainConfig) -> Exception:
        """The error of a seed whose workers ended without a result."""
        if error is None or not isinstance(error, TrainingFailedError):
            return error or RuntimeError("the workers ended without a result")
        causes = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
        deaths = [cause for cause in causes if not lost_another(cause)]  # the others followed it
        reason = str((deaths or causes or [error])[0]).strip().partition("\n")[0][:LONGEST_REASON]
        return ClusterError(
            f"seed {config.seed}: the workers died {MAX_FAILURES + 1} times ({reason}): give fewer "
            "--workers if their machine runs out of memory, else start the command again"
        )


class _Fit:
    """`TorchTrainer.fit` in a thread: in the main thread it would take over Ctrl-C.

    Attributes:
        error: that it raised; None before its end, and where it succeeded.
    """

    def __init__(self, trainer: TorchTrainer) -> None:
        self._trainer = trainer
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:  # raised where the thread is waited for
            self.error = error
        except SystemExit:  # Ray was shut down before the end: an error ends the command
            return


def _read(message: Message) -> FinishedSeed | None:
    """What a message says: raises an error, returns a result."""
    if isinstance(message, Failed):
        if isinstance(message.error, str):
            raise RuntimeError(f"a worker failed:\n{message.error}")
        raise message.error
    return message if isinstance(message, FinishedSeed) else None


def _again(started: Started) -> str:
    where = f"from epoch {started.trained}" if started.trained else "from the start"
    return f"a worker died; all of them train on {where}"


@contextmanager
def _ray_trains_folder() -> Iterator[str]:
    """A folder for Ray Train's own files, which nothing reads.

    Ray Train's environment is set here, too: its workers stay in the command's folder, to which
    paths of images may be relative, and it measures nothing.
    """
    os.environ |= {"RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", START_SECONDS)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    with temporary_folder("train") as folder:
        yield str(folder)
