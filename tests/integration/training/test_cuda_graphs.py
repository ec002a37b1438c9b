"""Whole runs of every preset with recorded steps are those without."""

from __future__ import annotations

import pytest
from recorded_steps import InPlace, outcome, plain_data
from short_runs import CPU, preset_config
from small_data import make_splits

from imbtune.spaces.presets import PRESETS
from imbtune.training.device.cuda_graphs import GraphedModelPool
from imbtune.training.device.device_data import DeviceData


@pytest.fixture
def recording() -> DeviceData:
    """DATA, in a process whose steps are recorded."""
    data = DeviceData(make_splits([60, 20, 8, 4], 8), CPU)
    data.graphed_models = GraphedModelPool(InPlace)
    InPlace.recorded = 0
    return data


@pytest.mark.parametrize("preset", PRESETS)
def test_a_recorded_step_changes_no_figure(recording: DeviceData, preset: str) -> None:
    """To the last bit, along rungs: copies that cool down, second stages, generated images."""
    config = preset_config(preset, epochs=4, model__width=2, batch_size=40)
    assert outcome(config, recording) == outcome(config, plain_data())
    assert InPlace.recorded
