"""Every registered part trains, and is applied after training, with its defaults."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from imbtune.config.slots import SLOTS, registries
from imbtune.config.train_config import TrainConfig
from imbtune.registry import Value
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import whole_run
from imbtune.training.state import TrainState

PARTS = [
    (part.slot, part.name)
    for registry in registries()
    if registry.slot in {*SLOTS} - {"data"}
    for part in registry
]
CHEAP: dict[str, dict[str, Value]] = {
    "deepsmote": {"generate.epochs": 2, "generate.width": 4, "generate.latent": 8},
    "m2m": {"generate.share": 0.5, "generate.steps": 2},
}


def small_config(slot: str, name: str) -> TrainConfig:
    settings: dict[str, Value] = {"model.width": 4} if slot != "model" else {}
    settings |= {slot: name, "epochs": 2, "batch_size": 30, "precision": "float32"}
    return TrainConfig.from_settings(settings | CHEAP.get(name, {}))


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_every_part_trains_and_finishes_with_its_defaults(
    slot: str, name: str, device_data: DeviceData
) -> None:
    """One epoch of trunk and one of cool-down: finite, changing the weights, twice the same."""
    config = pickle.loads(pickle.dumps(small_config(slot, name)))
    assert config == small_config(slot, name)
    trained = []
    for _ in range(2):
        state = TrainState(config, device_data)
        fresh = [weight.clone() for weight in state.model.parameters()]
        losses = [
            train_epoch(state, device_data, epoch).loss
            for epoch in whole_run(2, config.schedule.shared)
        ]
        apply_posthoc(state, device_data, 2)
        assert all(math.isfinite(loss) for loss in losses)
        tensors = state.model.state_dict().values()
        assert all(bool(tensor.isfinite().all()) for tensor in tensors)
        moved = zip(state.model.parameters(), fresh, strict=True)
        assert all(not torch.equal(weight, before) for weight, before in moved)
        trained.append(list(tensors))
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))
