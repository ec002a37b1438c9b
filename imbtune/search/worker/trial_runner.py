"""A trial as a search follows it: along its path, and in reports of what it reached."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from imbtune.config.plugins import PluginModule, register
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.runtime import keep_freed_memory
from imbtune.search.asha import RUNG_TIME, SCORE
from imbtune.search.worker.gpu_memory import limit_memory
from imbtune.study import checkpoints
from imbtune.study.request import EVERY
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import ClassMargins
from imbtune.training.evaluation.metrics import compute_metrics, recalls
from imbtune.training.phases import Segment, calibration_segments, remaining_segments, rung_segments
from imbtune.training.rungs import EpochResult, RungResult, train_through_rungs
from imbtune.training.state import TrainState, pick_device


@dataclass(frozen=True)
class WorkerSettings:
    """What is the same for all trials of a search.

    rungs: a kind, or EVERY. budgets: in epochs, rising. objective: the metric that is the score.
    checkpoints: the study's folder or URI, or none to keep no checkpoints.
    """

    rungs: str
    budgets: list[int]
    eta: int
    objective: str
    checkpoints: str | None = None
    threads: int = 1
    gpus: float = 0.0  # of a trial; below 1 its memory is limited to that share
    report_seconds: float = 3.0  # epochs reach the driver at every rung, and about this often
    imports: tuple[PluginModule, ...] = ()
    pack: bool = False  # the trials of a GPU, or of a machine, share a process

    def path(self, variants: list[TrainConfig], whole: bool) -> list[Segment]:
        """A trial's path through its rungs; `whole`, to the full budget without any."""
        phases = [config.schedule.shared for config in variants]
        if whole:
            return rung_segments("cooldown", self.budgets[-1:], *phases)
        if self.rungs == EVERY:
            return calibration_segments(self.budgets, *phases)
        return rung_segments(self.rungs, self.budgets, *phases)


def prepare(
    splits: Splits, worker_settings: WorkerSettings, has_gpu: bool, trials: int = 1
) -> DeviceData:
    """Make this process ready to train so many trials at once; the data on its device."""
    register(worker_settings.imports)
    torch.set_num_threads(worker_settings.threads)
    keep_freed_memory()
    if has_gpu:
        limit_memory(trials * worker_settings.gpus)
    return DeviceData(splits, pick_device() if has_gpu else torch.device("cpu"))


class TrialRunner:
    """One trial in training. Knows no actor and no stream, so that several can take turns.

    What Ray calls a trial is a trunk: one trial of ours, or several late variants.

    Args:
        config: of Tune: the numbers of the variants (`trials`) and their `settings`; and where it
            goes on after a kill, the budget `reached`, the `images` and `seconds` until then, and
            the epochs `trained` that its checkpoint has; or that it shall run `whole`, without
            rungs.
        node: Ray's ID of the machine.
    """

    def __init__(
        self, worker_settings: WorkerSettings, data: DeviceData, node: str, config: dict[str, Any]
    ) -> None:
        variants = [TrainConfig.from_settings(settings) for settings in config["settings"]]
        self._course, self._data, self._node = worker_settings, data, node
        self._trials: list[int] = config["trials"]
        self._scored: dict[tuple[int, str], list[dict[str, Any]]] = {}  # of rungs under way
        self._branches = [0] * len(variants)  # image passes of their own cool-downs
        self._kept: TrainState | None = None  # a trunk to checkpoint, if it goes on
        self._is_first = True  # the first epoch is reported at once
        self._seconds: list[float] = list(config["seconds"])
        self._trained: int = config["trained"]
        state, path = None, worker_settings.path(variants, config["whole"])
        if config["reached"]:
            path = remaining_segments(path, config["reached"], self._trained)
        if self._trained and worker_settings.checkpoints:
            state = TrainState(variants[0], data)
            state.restore(
                checkpoints.load(worker_settings.checkpoints, self._trials[0], self._trained)
            )
        self._before, self._images = state.passes if state else 0, config["images"]
        self._path = path
        self._climb: Iterator[EpochResult | RungResult] = train_through_rungs(
            variants, data, path, state
        )

    def go_on(self) -> None:
        """Begin the next report: the scheduler lets the trial go on."""
        self._keep()
        self._epochs: list[dict[str, Any]] = []
        self._started = self._clock = time.monotonic()

    def launch(self) -> EpochResult | RungResult:
        """Train to the next result; on a GPU the work is only queued, in the current stream."""
        result = next(self._climb, None)
        if result is None:
            raise RuntimeError("a trial was asked to go on after its last rung")
        return result

    def read(self, result: EpochResult | RungResult) -> dict[str, Any] | None:
        """Wait for the result; a report where a rung was reached, or it is time for one."""
        if isinstance(result, RungResult):
            row, rung = self._rung(result), (result.segment.rung, result.segment.kind)
            self._scored.setdefault(rung, []).append(row)
            if len(self._scored[rung]) == len(self._trials):
                return self._report() | self._reached(result, self._scored.pop(rung))
            return None
        self._epochs.append(self._epoch(result))
        if self._is_first or time.monotonic() - self._started > self._course.report_seconds:
            self._is_first = False
            return self._report()
        return None

    def step(self) -> dict[str, Any]:
        """Train alone to the next report."""
        self.go_on()
        while (report := self.read(self.launch())) is None:
            pass
        return report

    def _report(self) -> dict[str, Any]:
        return {"epochs": self._epochs, "node": self._node, "pid": os.getpid()}

    def _count(self, result: EpochResult | RungResult) -> None:
        """The seconds since the last result are the variant's, or on the trunk the first one's."""
        now = time.monotonic()
        on_trunk = isinstance(result, EpochResult) and result.epoch not in result.segment.branch
        self._seconds[0 if on_trunk else result.segment.variant] += now - self._clock
        self._clock = now

    def _figures(self, result: EpochResult | RungResult) -> dict[str, Any]:
        figures = compute_metrics(result.confusion_KK, self._data.counts_K)
        return {**figures, "recall": recalls(result.confusion_KK).tolist()}

    def _epoch(self, result: EpochResult) -> dict[str, Any]:
        epoch, figures = result.epoch, self._figures(result)
        self._count(result)
        in_branch = epoch in result.segment.branch
        self._trained = self._trained if in_branch else epoch.index + 1
        return {
            "trial": self._trials[result.segment.variant if in_branch else 0],
            "epoch": epoch.index + 1,
            "phase": epoch.phase,
            "budget": epoch.budget,
            "lr": result.lr,
            "loss": result.loss,
            "time": time.time(),
            **figures,
        }

    def _rung(self, result: RungResult) -> dict[str, Any]:
        variant = result.segment.variant
        figures = self._figures(result)
        self._count(result)
        self._branches[variant] += result.branch_passes
        trunk = result.passes - self._before - sum(self._branches)
        own = self._branches[variant] + (0 if variant else trunk)
        return {
            "trial": self._trials[variant],
            "kind": result.segment.kind,
            "budget": result.segment.budget,
            "score": figures[self._course.objective],
            "images": self._images[variant] + own,
            "figures": figures | _margin_columns(result.margins),
            "node": self._node,
            "seconds": self._seconds[variant],
            "threads": self._course.threads,
        }

    def _reached(self, result: RungResult, scored: list[dict[str, Any]]) -> dict[str, Any]:
        """The report of a rung: the best variant stands for its trunk."""
        segment = result.segment
        following = self._path[self._path.index(segment) + 1 :][:1]
        goes_on = bool(following) and not following[0].fresh and not self._scored
        self._kept = result.state if goes_on else None
        return {
            RUNG_TIME: self._course.eta**segment.rung,
            SCORE: max(row["score"] for row in scored),
            "rung": scored,
            "done": not following,
        }

    def _keep(self) -> None:
        """Checkpoint the trunk behind the last rung, now that the scheduler lets it go on."""
        if self._kept and self._course.checkpoints:
            study_path, number = self._course.checkpoints, self._trials[0]
            checkpoints.save(study_path, number, self._trained, self._kept.snapshot())
        self._kept = None


def _margin_columns(margins: ClassMargins | None) -> dict[str, list[float]]:
    """Mean margins of each class as columns of the trials' table; none below the last rung."""
    if margins is None:
        return {}
    return {
        "margin_train": margins.train_logit_K.tolist(),
        "margin_val": margins.held_out_logit_K.tolist(),
        "probability_margin_train": margins.train_probability_K.tolist(),
        "probability_margin_val": margins.held_out_probability_K.tolist(),
    }
