"""Trains the seeds of `imbtune train` side by side: on the workers of a comparison.

Each seed is a run of its own, with its own checkpoints in the folder of the training. A worker that
dies is replaced, and its seed goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from imbtune.comparison.final_runner import FinalReport, FinalWorkerSettings
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, DivergenceError
from imbtune.final_training.final_task import FinalTask
from imbtune.final_training.seed_training import CHECKPOINT_SECONDS, Ended, SeedTrainer
from imbtune.metrics.metric import metric_from
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import WorkerLost
from imbtune.tuning.cluster.connection import cluster_nodes, connected, local_node
from imbtune.tuning.cluster.resources import Node, Resources, plan_resources
from imbtune.tuning.execution.events import FailureLimits, TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.execution.run_trials import run_trials
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.execution.trial_progress import TrialProgress
from imbtune.tuning.messages import TrialReport, TrialSpec


@dataclass(frozen=True)
class SideBySide:
    """Opens what trains several seeds at a time on this machine.

    Attributes:
        at_a_time: seeds that are trained at a time.
        checkpoint_seconds: at least so much time lies between two checkpoints of a seed.
    """

    at_a_time: int
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def check(self) -> None:
        """ConfigError where this machine has fewer GPUs, or without GPUs fewer CPUs."""
        self._resources(local_node())

    @contextmanager
    def __call__(self, task: FinalTask) -> Iterator[SeedTrainer]:
        """Start Ray, and end it on exit."""
        hint = "run the same command again, which goes on"
        with connected(None, hint):
            (node,) = cluster_nodes()
            yield _Trainer(self, task, self._resources(node))

    def _resources(self, node: Node) -> Resources:
        """What each seed gets: a GPU, or without GPUs an even share of the CPUs."""
        most, kind = (node.gpus, "GPU") if node.gpus else (node.cpus, "CPU")
        if self.at_a_time > most:
            raise ConfigError(
                f"--max-concurrent {self.at_a_time}: this machine has room for {most}, a {kind} "
                f"each: give at most {most}"
            )
        cpus = max(1, node.cpus // self.at_a_time)
        gpus = 1.0 if node.gpus else 0.0
        return plan_resources([node], self.at_a_time, cpus, gpus, None)


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains seeds while Ray is connected."""

    opened: SideBySide
    task: FinalTask
    resources: Resources

    @property
    def at_a_time(self) -> int:
        return self.resources.concurrent

    @property
    def place(self) -> str:
        share = f"{self.resources.cpus} CPU" + (" + 1 GPU" if self.resources.gpus else "")
        return f"{share} for each of {self.at_a_time} seeds at a time"

    def __call__(self, configs: Sequence[TrainConfig], reporter: Reporter, ended: Ended) -> None:
        task = self.task
        settings = FinalWorkerSettings(
            rungs="none",
            budgets=[task.config.epochs],
            eta=2,  # nothing is stopped
            objectives=task.objectives or (metric_from("balanced_accuracy"),),
            checkpoints=str(task.out.absolute()),
            threads=self.resources.cpus,
            gpus=self.resources.gpus,
            imports=task.imports,
            checkpoint_seconds=self.opened.checkpoint_seconds,
            ema=task.options.ema,
            gives_model=True,
        )
        specs = [TrialSpec.single_run(config.seed, config.flat(), True, None) for config in configs]
        seeds = _Seeds(reporter, ended)
        progress = TrialProgress(reporter, _name, task.splits, settings, lambda _: None)
        interrupted = run_trials(
            task.splits,
            settings,
            replace(self.resources, concurrent=min(self.at_a_time, len(specs))),
            ListSearcher(specs),
            len(specs),
            seeds,
            FailureLimits(),
            progress=progress,
        )
        if interrupted:
            raise KeyboardInterrupt
        seeds.check()


def _name(spec: TrialSpec) -> str:
    return f"seed {spec.number}"


class _Seeds(TrialCallback):
    """Hands over each seed that has ended, and notes those that failed."""

    def __init__(self, reporter: Reporter, ended: Ended) -> None:
        self._reporter, self._ended = reporter, ended
        self._diverged: dict[int, str] = {}
        self._failed: dict[int, Failure] = {}

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Hand over a seed that has ended."""
        assert isinstance(report, FinalReport)
        for warning in report.warnings:
            self._reporter(f"{_name(spec)}: {warning}")
        if not report.is_last:
            return
        if report.finished is None:
            self._diverged[spec.number] = "; ".join(report.diverged.values())
        else:
            self._ended(report.finished)

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Note a seed that failed; the others go on."""
        self._failed[spec.number] = failure

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """Say that the seed goes on from its last checkpoint."""
        self._reporter.tell(WorkerLost(self._reporter.now(), _name(spec), reason))

    def check(self) -> None:
        """Raise what the first seed failed of.

        Raises:
            DivergenceError: a seed diverged.
            ImbtuneError: a seed failed for another reason.
        """
        for seed, reason in sorted(self._diverged.items()):
            raise DivergenceError(f"seed {seed}, {reason}")
        for seed, failure in sorted(self._failed.items()):
            if failure.traceback:
                raise RuntimeError(f"seed {seed} failed:\n{failure.traceback}")
            raise ConfigError(f"seed {seed}: {failure.reason}")
