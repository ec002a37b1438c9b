"""Steps that are recorded as a CUDA graph is, on a CPU."""

from __future__ import annotations

from typing import Any

from short_runs import CPU
from small_data import make_splits
from torch import Tensor

from imbtune.config.train_config import TrainConfig
from imbtune.training.device.cuda_graphs import Run
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import Diverged, RungResult, train_through_rungs


class InPlace:
    """Repeats a run on the tensors of its first, and counts."""

    recorded = 0

    def __call__(self, run: Run) -> Run:
        made = run()
        type(self).recorded += 1

        def replay() -> list[Tensor]:
            for kept, new in zip(made, run(), strict=True):
                kept.copy_(new)
            return made

        return replay


def plain_data() -> DeviceData:
    return DeviceData(make_splits([60, 20, 8, 4], 8), CPU)


def outcome(config: TrainConfig, data: DeviceData) -> list[Any]:
    """Losses, confusions and margins along all rungs."""
    path = rung_segments("cooldown", [2, config.epochs], config.schedule.shared)
    found: list[Any] = []
    for result in train_through_rungs([config], data, path):
        assert not isinstance(result, Diverged), result.reason
        found.append(result.confusion_KK.tolist())
        if not isinstance(result, RungResult):
            found.append(result.loss)
        elif result.margins:
            found += [mean_K.tolist() for mean_K in result.margins]
    return found
