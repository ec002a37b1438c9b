"""What a worker does in a comparison: it trains one seed, writes checkpoints, and tests the model.

The workers are those of a search (:mod:`imbtune.tuning.worker`). What is held out of their data are
the test images here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imbtune.config.train_config import TrainConfig
from imbtune.errors import CheckpointError, DivergenceError
from imbtune.final_training.final_run import (
    FinalRun,
    FinishedSeed,
    Progress,
    SeedRun,
    reported_loss,
)
from imbtune.storage import Store
from imbtune.study.checkpoints import checkpoint_epochs, load_checkpoint, save_checkpoint
from imbtune.study.records import Machine
from imbtune.training.cost.image_passes import whole_run_segments
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import Segment
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.worker.trial_runner import WorkerSettings


@dataclass(frozen=True, kw_only=True)
class FinalReport(TrialReport):
    """A report of a run: that it is still trained, or, the last one, its result.

    Attributes:
        run: its result on the test images; None before its end, and where it diverged.
        images: image passes of the training.
        threads: CPU threads, on which the last bits of a result depend.
        finished: the model, where the worker gives it; None before the run's end.
        score: the first objective on the test images; None before the run's end, and where it is
            undefined.
    """

    run: FinalRun | None
    images: int
    threads: int
    finished: FinishedSeed | None = None
    score: float | None = None

    def scores(self) -> list[float]:
        """The score of the model, where the run has ended."""
        return [] if self.score is None else [self.score]


@dataclass(frozen=True)
class FinalWorkerSettings(WorkerSettings):
    """What is the same for all runs of a comparison.

    Attributes:
        checkpoint_seconds: at least so much time lies between two checkpoints of a run, which are
            written between epochs.
        ema: decay of the average of the weights; None without one.
        gives_model: whether the last report has the model.
    """

    checkpoint_seconds: float = 60.0
    ema: float | None = None
    gives_model: bool = False

    def segments(self, variants: Sequence[TrainConfig], without_rungs: bool) -> list[Segment]:
        """A run's epochs: as many as its own configuration has."""
        return whole_run_segments(variants[0])

    def runner(self, data: DeviceData, machine: Machine, spec: TrialSpec) -> FinalRunner:
        """What trains a run."""
        return FinalRunner(self, data, machine, spec)


class FinalRunner:
    """Trains and tests one run, from its newest checkpoint if the study has one.

    Args:
        data: all training images and, held out, the test images.
        machine: this one, for the report.
        spec: the run; its settings hold the seed.
    """

    def __init__(
        self, worker: FinalWorkerSettings, data: DeviceData, machine: Machine, spec: TrialSpec
    ) -> None:
        self._worker, self._data, self._number = worker, data, spec.number
        self._machine, self._began = machine, time.time()
        self._warnings: list[str] = []
        self._is_saved, self._trained = False, 0
        self._loss: float | None = None  # of an epoch that a user reads of
        self._saved = time.monotonic()
        config = TrainConfig.from_settings(spec.settings[0])
        self._run = SeedRun(config, data, self._checkpoint(), worker.objectives, worker.ema)
        self._epochs = self._run.epochs()

    def step(self) -> FinalReport:
        """Train for a few seconds, or an epoch where that is longer; at the end, test the model.

        A report comes earlier at every tenth of the run, with the loss.
        """
        until = time.monotonic() + self._worker.report_seconds
        try:
            for progress in self._epochs:
                self._after_epoch(progress)
                if time.monotonic() >= until or self._loss is not None:
                    return self._report(None, 0, {}, is_last=False)
            trained = self._run.finish()
        except DivergenceError as error:
            return self._report(None, 0, {self._number: str(error)}, is_last=True)
        report = self._report(trained.run, trained.state.passes, {}, is_last=True)
        return replace(report, finished=trained.finished()) if self._worker.gives_model else report

    def _report(
        self, run: FinalRun | None, images: int, diverged: dict[int, str], is_last: bool
    ) -> FinalReport:
        warnings, self._warnings = self._warnings, []
        is_saved, self._is_saved = self._is_saved, False
        loss, self._loss = self._loss, None
        objective = self._worker.objectives[0]
        return FinalReport(
            score=objective.score_of(run.metrics.get(objective.name)) if run else None,
            epochs=(),
            rung=(),
            rung_index=None,
            is_last=is_last,
            machine=self._machine,
            started=self._began,
            diverged=diverged,
            warnings=warnings,
            is_saved=is_saved,
            trained=self._trained,
            loss=loss,
            run=run,
            images=images,
            threads=self._worker.threads,
        )

    def _checkpoint(self) -> bytes | None:
        """The newest checkpoint of the run; None where there is none that can be read."""
        study = self._worker.checkpoints
        epochs = checkpoint_epochs(Store(study), self._number) if study else 0
        if not study or not epochs:
            return None
        try:
            return load_checkpoint(study, self._number, epochs)
        except CheckpointError as error:
            self._warnings.append(f"{error}: it is trained from its start")
            return None

    def _after_epoch(self, progress: Progress) -> None:
        """Write a checkpoint if the last one is old enough."""
        self._trained, self._loss = progress.trained, reported_loss(progress)
        study, due = self._worker.checkpoints, self._saved + self._worker.checkpoint_seconds
        if study and time.monotonic() >= due:
            try:
                save_checkpoint(study, self._number, progress.trained, progress.checkpoint())
                self._is_saved = True
            except CheckpointError as error:
                self._warnings.append(str(error))
            self._saved = time.monotonic()
