"""Whole runs with recorded steps, of every preset and of many settings, are those without."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from recorded_steps import InPlace, outcome, plain_data
from short_runs import CPU, epochs_of, everything, make_config, preset_config, same, train
from small_data import make_splits

from imbtune.spaces.presets import PRESETS
from imbtune.training.device.cuda_graphs import GraphedModelPool
from imbtune.training.device.device_data import DeviceData
from imbtune.training.state import TrainState


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


def test_one_recording_serves_every_trial_of_a_network(recording: DeviceData) -> None:
    """Mixing, losses, weights, rates, decay and momentum differ; only the shapes are recorded."""
    trials: list[dict[str, Any]] = [
        {"mix": "mamix", "mix__omega": 0.5, "loss": "vs", "weights": "inverse", "seed": 3},
        {"mix": "cutmix", "loss": "focal", "loss__gamma": 2.0, "optimizer__momentum": 0.5},
        {"mix": "remix", "loss": "label_aware_smoothing", "optimizer__lr": 0.3},
        {"mix": "mixup", "optimizer": "adamw", "sampler": "class_balanced"},
        {"mix": "cmo", "optimizer__weight_decay": 0.05, "schedule": "cosine"},
    ]
    for changes in trials:
        config = make_config(**changes)
        states = [TrainState(config, data) for data in (recording, plain_data())]
        for state, data in zip(states, (recording, plain_data()), strict=True):
            train(state, epochs_of(config), data)
        assert same(*map(everything, states)), changes
        del states, state
        gc.collect()
    assert InPlace.recorded <= 2  # of two labels a sample; of one, where CMO leaves batches alone
