"""Trains the seeds of a final training one after another in this process, with checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import CheckpointError, DivergenceError
from imbtune.final_training.final_run import (
    FinishedSeed,
    Progress,
    reported_loss,
    train_seed,
)
from imbtune.final_training.final_task import FinalTask
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import EpochsTrained, RunStarted, Step
from imbtune.storage import Store
from imbtune.study.checkpoints import checkpoint_epochs, load_checkpoint, save_checkpoint
from imbtune.study.records import summary
from imbtune.training.cost.image_passes import run_passes
from imbtune.training.device.device_data import DeviceData
from imbtune.training.state import pick_device

CHECKPOINT_SECONDS = 60.0  # between two checkpoints of a seed; one epoch where that takes longer

Ended = Callable[[FinishedSeed], None]


class SeedTrainer(Protocol):
    """Trains seeds of a configuration."""

    @property
    def place(self) -> str:
        """Where it trains, for a line of progress."""

    @property
    def at_a_time(self) -> int:
        """How many seeds it trains at a time."""

    def __call__(self, configs: Sequence[TrainConfig], reporter: Reporter, ended: Ended) -> None:
        """Train and test each configuration, from its newest checkpoint if there is one.

        Args:
            configs: they differ only in their seeds.
            reporter: gets when a seed begins, and its epochs.
            ended: is called with each seed that has ended, in any order.

        Raises:
            DivergenceError: a seed diverged; it is named.
        """


OpenTrainer = Callable[[FinalTask], AbstractContextManager[SeedTrainer]]


@dataclass(frozen=True, eq=False)
class _InProcess:
    """Trains seeds in this process."""

    task: FinalTask
    data: DeviceData
    at_a_time: int = 1

    @property
    def place(self) -> str:
        return str(self.data.device)

    def __call__(self, configs: Sequence[TrainConfig], reporter: Reporter, ended: Ended) -> None:
        for config in configs:
            with diverging_seed(config.seed):
                finished = self._train(config, reporter)
            ended(finished)

    def _train(self, config: TrainConfig, reporter: Reporter) -> FinishedSeed:
        saved = time.monotonic()
        out = str(self.task.out)

        def after_epoch(progress: Progress) -> None:
            nonlocal saved
            run, now = seed_run(config), reporter.now()
            loss = reported_loss(progress)
            reporter.tell(EpochsTrained(now, run, 1, progress.trained, loss))
            reporter.tick()
            if time.monotonic() >= saved + CHECKPOINT_SECONDS:
                try:
                    save_checkpoint(out, config.seed, progress.trained, progress.checkpoint())
                except CheckpointError as error:
                    reporter(f"{run}: {error}")
                saved = time.monotonic()

        checkpoint, trained = newest_checkpoint(self.task, config.seed, reporter)
        reporter.tell(seed_started(config, self.task.splits, reporter.now(), trained))
        ema, objectives = self.task.options.ema, self.task.objectives
        run = train_seed(config, self.data, after_epoch, checkpoint, ema, objectives)
        return run.finished()


@contextmanager
def in_this_process(task: FinalTask) -> Iterator[SeedTrainer]:
    """Train on this process's device: the first GPU, else the CPU."""
    yield _InProcess(task, DeviceData(task.splits, pick_device()))


def newest_checkpoint(task: FinalTask, seed: int, reporter: Reporter) -> tuple[bytes | None, int]:
    """The newest checkpoint of a seed, and its epoch; None and 0 where none can be read."""
    out = str(task.out)
    epochs = checkpoint_epochs(Store(out), seed)
    if not epochs:
        return None, 0
    try:
        content = load_checkpoint(out, seed, epochs)
    except CheckpointError as error:
        reporter(f"seed {seed}: {error}: it is trained from its start")
        return None, 0
    reporter(f"seed {seed}: goes on after epoch {epochs}")
    return content, epochs


@contextmanager
def diverging_seed(seed: int) -> Iterator[None]:
    """Say in the message of a DivergenceError which seed diverged."""
    try:
        yield
    except DivergenceError as error:
        raise DivergenceError(f"seed {seed}, {error}") from error


def seed_run(config: TrainConfig) -> str:
    """The name of a run with a configuration's seed."""
    return f"seed {config.seed}"


def seed_started(config: TrainConfig, splits: Splits, now: float, trained: int = 0) -> RunStarted:
    """A seed's run begins, or goes on.

    Args:
        trained: epochs that it was trained for before.
    """
    passes, left = float(run_passes(config, splits.counts())), config.epochs - trained
    steps = (Step(config.epochs, left, passes * left / config.epochs),)
    name = summary(config.flat())
    return RunStarted(now, seed_run(config), name, steps=steps, full_passes=passes)
