"""One Ray actor that trains trial after trial. Its data and threads outlive a trial."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch
from ray import tune

from imbtune.config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.imports import OwnModule, register
from imbtune.search.scheduler import RUNG_TIME
from imbtune.training.climb import EpochResult, RungResult, climb
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import pick_device
from imbtune.training.margins import ClassMargins
from imbtune.training.metrics import metrics, recalls
from imbtune.training.progress import stretches


class TrialActor(tune.Trainable):
    """Ray's view of a trial: each `step` trains to the next rung, or for a few seconds."""

    _is_first: bool

    def setup(
        self,
        config: dict[str, Any],
        splits: Splits | None = None,
        rungs: str = "cooldown",
        budgets: list[int] | None = None,
        eta: int = 3,
        objective: str = "balanced_accuracy",
        threads: int = 1,
        report_seconds: float = 3.0,
        imports: tuple[OwnModule, ...] = (),
    ) -> None:
        """Put the data on the device, once an actor, and begin the first trial."""
        assert splits and budgets
        register(imports)
        torch.set_num_threads(threads)
        # a trial without a share of a GPU stays off it: Ray does not hide the GPUs from it
        has_gpu = bool(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        self._data = DeviceData(splits, pick_device() if has_gpu else torch.device("cpu"))
        self._rungs, self._budgets, self._eta, self._objective = rungs, budgets, eta, objective
        self._report_seconds = report_seconds
        self._node = ray.get_runtime_context().get_node_id()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train on; the epochs since the last report, and the rung where one was reached."""
        report: dict[str, Any] = {"epochs": [], "node": self._node, "pid": os.getpid()}
        started = time.monotonic()
        for result in self._climb:
            if isinstance(result, RungResult):
                return report | self._rung(result)
            report["epochs"].append(self._epoch(result))
            if self._is_first or time.monotonic() - started > self._report_seconds:
                self._is_first = False
                return report | {"images": result.passes}
        raise RuntimeError("a trial was asked to go on after its last rung")

    def _begin(self, config: dict[str, Any]) -> None:
        train = TrainConfig.from_settings(config["settings"])
        path = stretches(self._rungs, self._budgets, train.schedule.shared)
        self._is_first = True  # the first epoch is reported at once
        self._climb: Iterator[EpochResult | RungResult] = climb([train], self._data, path)

    def _figures(self, result: EpochResult | RungResult) -> dict[str, Any]:
        figures = metrics(result.confusion_KK, self._data.counts_K)
        return {**figures, "recall": recalls(result.confusion_KK).tolist()}

    def _epoch(self, result: EpochResult) -> dict[str, Any]:
        epoch = result.epoch
        return {
            "epoch": epoch.index + 1,
            "phase": epoch.phase,
            "budget": epoch.budget,
            "lr": result.lr,
            "loss": result.loss,
            "time": time.time(),
            **self._figures(result),
        }

    def _rung(self, result: RungResult) -> dict[str, Any]:
        figures = self._figures(result)
        return {
            RUNG_TIME: self._eta**result.stretch.rung,
            "budget": result.stretch.budget,
            "score": figures[self._objective],
            "images": result.passes,
            "figures": figures | _margin_columns(result.margins),
            "done": result.stretch.budget == self._budgets[-1],
        }


def _margin_columns(margins: ClassMargins | None) -> dict[str, list[float]]:
    """Mean margins of each class as columns of the trials' table; none below the last rung."""
    if margins is None:
        return {}
    return {
        "margin_train": margins.train_logit_K.tolist(),
        "margin_val": margins.held_logit_K.tolist(),
        "probability_margin_train": margins.train_probability_K.tolist(),
        "probability_margin_val": margins.held_probability_K.tolist(),
    }
