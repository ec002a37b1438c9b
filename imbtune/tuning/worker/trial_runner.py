"""One trial in training, as a worker sees it: from a TrialSpec to its reports."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import register
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import CheckpointError, first_line
from imbtune.metrics.from_confusion import recalls
from imbtune.metrics.metric import Metric, compute
from imbtune.metrics.predictions import Confusion, Predictions
from imbtune.metrics.score_error import score_error, scores_without_groups
from imbtune.runtime import keep_freed_memory
from imbtune.study.checkpoints import load_checkpoint, save_checkpoint
from imbtune.study.records import Machine
from imbtune.study.request import EVERY
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import Segment, calibration_segments, remaining_segments, rung_segments
from imbtune.training.rungs import (
    Diverged,
    EpochResult,
    Result,
    RungResult,
    train_through_rungs,
)
from imbtune.training.state import TrainState, pick_device
from imbtune.tuning.messages import (
    EpochReport,
    ImagePredictions,
    RungReport,
    TrialReport,
    TrialSpec,
)
from imbtune.tuning.worker.gpu_memory import limit_memory
from imbtune.tuning.worker.rung_columns import margin_columns, occurring

RungKey = tuple[int, str]  # index and kind
MOST_LOGITS = 2**20  # that are reported: 4 MiB


class Runner(Protocol):
    """What a worker trains a trial with."""

    def step(self) -> TrialReport:
        """Train to the next report."""


@dataclass(frozen=True)
class WorkerSettings:
    """What is the same for all trials of a search.

    Attributes:
        rungs: a kind of rung, or EVERY.
        budgets: the rungs in epochs, rising; the last is the full budget.
        eta: η, the reduction factor of the rungs.
        objectives: of the search; the first one's :meth:`Metric.score` is the score.
        checkpoints: the study's folder or URI; None to write no checkpoints.
        threads: CPU threads of a trial.
        gpus: of a trial; below 1 its GPU memory is limited to that share.
        report_seconds: epochs are reported at every rung, and about this often between rungs.
        imports: modules with the user's plugins.
        pack: several trials share a process (:mod:`imbtune.tuning.packing`).
    """

    rungs: str
    budgets: list[int]
    eta: int
    objectives: Sequence[Metric]
    checkpoints: str | None = None
    threads: int = 1
    gpus: float = 0.0
    report_seconds: float = 3.0
    imports: tuple[PluginModule, ...] = ()
    pack: bool = False

    def segments(self, variants: Sequence[TrainConfig], without_rungs: bool) -> list[Segment]:
        """A trial's way through its rungs; `without_rungs`, straight to the full budget."""
        phases = [config.schedule.shared for config in variants]
        if without_rungs:
            return rung_segments("cooldown", self.budgets[-1:], *phases)
        if self.rungs == EVERY:
            return calibration_segments(self.budgets, *phases)
        return rung_segments(self.rungs, self.budgets, *phases)

    def runner(self, data: DeviceData, machine: Machine, spec: TrialSpec) -> Runner:
        """What trains a trial: here, through its rungs."""
        return TrialRunner(self, data, machine, spec)


def prepare(
    splits: Splits, worker_settings: WorkerSettings, has_gpu: bool, trials: int = 1
) -> DeviceData:
    """Set up this process to train `trials` trials at a time; returns the data on its device."""
    register(worker_settings.imports)
    torch.set_num_threads(worker_settings.threads)
    keep_freed_memory()
    if has_gpu:
        limit_memory(trials * worker_settings.gpus)
    return DeviceData(splits, pick_device() if has_gpu else torch.device("cpu"))


class TrialRunner:
    """Trains one trial and reports what it reached.

    It knows neither Ray nor CUDA streams, so that one process can run several of them in turn.

    Args:
        machine: this one, for the reports.
    """

    def __init__(
        self, worker_settings: WorkerSettings, data: DeviceData, machine: Machine, spec: TrialSpec
    ) -> None:
        variants = [TrainConfig.from_settings(settings) for settings in spec.settings]
        self._worker, self._data, self._spec = worker_settings, data, spec
        self._machine, self._began = machine, time.time()
        self._scored: dict[RungKey, dict[int, RungReport]] = {}  # by variant, of incomplete rungs
        self._healthy = set(range(len(variants)))  # variants that have not diverged
        self._diverged: dict[int, str] = {}  # by trial, not reported yet
        self._again: RungResult | Diverged | None = None  # a result that completes another rung
        self._branch_passes = [0] * len(variants)  # image passes of each trial's own cool-downs
        self._checkpoint_due: TrainState | None = None  # written if the scheduler goes on
        self._is_first = True  # the first epoch is reported at once
        self._error: Exception | None = None  # raised at the next step
        self._seconds = list(spec.seconds)
        self._warnings: list[str] = []
        state = self._load_checkpoint(variants[0]) if spec.trained_epochs else None
        self._trained = spec.trained_epochs if state else 0
        segments = worker_settings.segments(variants, spec.without_rungs)
        if spec.reached_budget:
            segments = remaining_segments(segments, spec.reached_budget, self._trained)
        self._passes_before = state.passes if state else 0
        self._results: Iterator[Result] = train_through_rungs(variants, data, segments, state)

    def begin_report(self) -> None:
        """Begin the next report: the scheduler lets the trial go on."""
        self._save_checkpoint()
        self._epochs: list[EpochReport] = []
        self._started = self._clock = time.monotonic()

    def launch(self) -> Result:
        """Train to the next result; on a GPU the work is only queued, in the current stream."""
        result, self._again = self._again or next(self._results, None), None
        if result is None:
            raise RuntimeError("a trial was continued after its last rung")
        return result

    def read(self, result: Result) -> TrialReport | None:
        """Wait for the result; a report at a complete rung or after `report_seconds`."""
        if isinstance(result, RungResult):
            rung, variant = (result.segment.rung, result.segment.kind), result.segment.variant
            self._scored.setdefault(rung, {})[variant] = self._rung(result)
            return self._complete(result)
        if isinstance(result, Diverged):
            self._drop(result)
            return self._complete(result)
        if result.failure:  # the next result says what it is the end of
            return None
        self._epochs.append(self._epoch(result))
        if self._is_first or time.monotonic() - self._started > self._worker.report_seconds:
            self._is_first = False
            return self._report([], None, is_last=False)
        return None

    def step(self) -> TrialReport:
        """Train to the next report.

        An error before the first report comes after one: so it is known on which machine the trial
        failed.
        """
        if self._error:
            raise self._error
        self.begin_report()
        try:
            while (report := self.read(self.launch())) is None:
                pass
        except Exception as error:
            if not self._is_first:
                raise
            self._is_first, self._error = False, error
            return self._report([], None, is_last=False)
        return report

    def _report(
        self, rung: Sequence[RungReport], rung_index: int | None, is_last: bool
    ) -> TrialReport:
        diverged, self._diverged = self._diverged, {}
        warnings, self._warnings = self._warnings, []
        return TrialReport(
            self._epochs, rung, rung_index, is_last, self._machine, self._began, diverged, warnings
        )

    def _drop(self, result: Diverged) -> None:
        """Note the trials that diverged; they are not waited for at any rung."""
        for variant in self._healthy & set(result.variants):
            self._diverged[self._spec.trials[variant]] = result.reason
            self._branch_passes[variant] += result.branch_passes
        self._healthy -= set(result.variants)
        waiting = {
            rung: {v: report for v, report in scored.items() if v in self._healthy}
            for rung, scored in self._scored.items()
        }
        self._scored = {rung: scored for rung, scored in waiting.items() if scored}

    @property
    def _first(self) -> int:
        """The first variant that has not diverged: the trunk's costs are counted for it."""
        return min(self._healthy)

    def _count_seconds(self, result: EpochResult | RungResult) -> None:
        """The seconds since the last result are the variant's, or on the trunk the first one's."""
        now = time.monotonic()
        on_trunk = isinstance(result, EpochResult) and result.epoch not in result.segment.branch
        self._seconds[self._first if on_trunk else result.segment.variant] += now - self._clock
        self._clock = now

    def _epoch(self, result: EpochResult) -> EpochReport:
        epoch, confusion_KK = result.epoch, result.confusion_KK
        self._count_seconds(result)
        in_branch = epoch in result.segment.branch
        self._trained = self._trained if in_branch else epoch.index + 1
        return EpochReport(
            trial=self._spec.trials[result.segment.variant] if in_branch else self._spec.number,
            epoch=epoch.index + 1,
            phase=epoch.phase,
            budget=epoch.budget,
            lr=result.lr,
            loss=result.loss,
            metrics=compute(
                Confusion.of(confusion_KK, self._data.counts_K, self._data.classes),
                self._worker.objectives,
            ),
            recall_K=recalls(confusion_KK).tolist(),
            time=time.time(),
        )

    def _rung(self, result: RungResult) -> RungReport:
        variant, confusion_KK = result.segment.variant, result.confusion_KK
        objective = self._worker.objectives[0]
        metrics = compute(result.predictions, self._worker.objectives)
        own = self._predictions(result.predictions) if self._spec.with_predictions else None
        without_groups = own.without_groups if own else None
        error = score_error(objective, result.predictions, without_groups)
        self._count_seconds(result)
        self._branch_passes[variant] += result.branch_passes
        trunk = result.passes - self._passes_before - sum(self._branch_passes)
        passes = self._branch_passes[variant] + (trunk if variant == self._first else 0)
        score = objective.score_of(metrics[objective.name])
        assert score is not None, "checked before the search: the labels alone decide"
        return RungReport(
            trial=self._spec.trials[variant],
            kind=result.segment.kind,
            budget=result.segment.budget,
            score=score,
            images=self._spec.images[variant] + passes,
            metrics=metrics,
            recall_K=recalls(confusion_KK).tolist(),
            margins=margin_columns(result.margins),
            node=self._machine.node,
            seconds=self._seconds[variant],
            threads=self._worker.threads,
            confusion=occurring(confusion_KK) if result.margins else None,
            score_error=error,
            predictions=own,
        )

    def _predictions(self, predictions: Predictions) -> ImagePredictions:
        """What the model predicts for each image, and its score without each group of them."""
        logits_MK, objective = predictions.logits_NK, self._worker.objectives[0]
        return ImagePredictions(
            logits_MK.argmax(1).cpu().numpy().astype(np.int32),
            logits_MK.float().cpu().numpy() if logits_MK.numel() <= MOST_LOGITS else None,
            scores_without_groups(objective, predictions),
        )

    def _complete(self, result: RungResult | Diverged) -> TrialReport | None:
        """The report of the rung that the result completes, or of a trial's end; else None."""
        complete = [r for r, scored in self._scored.items() if self._healthy <= scored.keys()]
        following = result.following
        if not complete:
            return None if following else self._report([], None, is_last=True)
        rung, *others = complete
        scored = self._scored.pop(rung)
        self._again = result if others else None
        goes_on = following is not None and not following.fresh and not self._scored
        self._checkpoint_due = result.state if goes_on else None
        is_last = following is None and not others
        return self._report([scored[v] for v in sorted(scored)], rung[0], is_last)

    def _load_checkpoint(self, config: TrainConfig) -> TrainState | None:
        """The trunk in the checkpoint; None where it cannot be read: it is trained again."""
        if not self._worker.checkpoints:
            return None
        state = TrainState(config, self._data)
        try:
            content = load_checkpoint(
                self._worker.checkpoints, self._spec.number, self._spec.trained_epochs
            )
            state.restore(torch.load(io.BytesIO(content), weights_only=True))
        except (CheckpointError, KeyError, RuntimeError) as error:  # or of another version
            self._warnings.append(
                f"its checkpoint cannot be read ({first_line(error)}): it is trained from its "
                "start, and reaches the same scores"
            )
            return None
        return state

    def _save_checkpoint(self) -> None:
        """Write the trunk of the last rung, now that the scheduler lets the trial go on."""
        if self._checkpoint_due and self._worker.checkpoints:
            content = io.BytesIO()
            torch.save(self._checkpoint_due.snapshot(), content)
            study, number = self._worker.checkpoints, self._spec.number
            try:
                save_checkpoint(study, number, self._trained, content.getvalue())
            except CheckpointError as error:
                self._warnings.append(
                    f"its checkpoint cannot be written ({first_line(error)}): a resumed search "
                    "would train it from its start"
                )
        self._checkpoint_due = None
