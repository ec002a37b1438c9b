"""Recorded steps: one recording for all trials of a network, and the figures of the plain step.

On a CPU the recording writes into the tensors of its first run, as a CUDA graph does; the graph
itself is tested where there is a GPU.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from recorded_steps import InPlace, outcome, plain_data
from short_runs import (
    CPU,
    DATA,
    epochs_of,
    everything,
    first_batch,
    make_config,
    preset_config,
    same,
    train,
)
from small_data import make_splits
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from imbtune.config.train_config import TrainConfig
from imbtune.methods.losses import losses
from imbtune.models.networks import Backbone, models
from imbtune.training.device.cuda_graphs import (
    MAX_KEPT,
    GraphedModel,
    GraphedModelPool,
    explain_capture_errors,
)
from imbtune.training.device.device_data import DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import train_through_rungs
from imbtune.training.state import TrainState

HAS_GPU = torch.cuda.is_available()


@pytest.fixture
def recording() -> DeviceData:
    """DATA, in a process whose steps are recorded."""
    data = DeviceData(make_splits([60, 20, 8, 4], 8), CPU)
    data.graphed_models = GraphedModelPool(InPlace)
    InPlace.recorded = 0
    return data


class Launched(TorchDispatchMode):
    """The operations of a step, with all that is in them but tensors: what a graph would keep."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        constants = tree_map_only(Tensor, lambda t: tuple(t.shape), (args, kwargs))
        self.calls.append((str(func), str(constants)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "imbsam"])
def test_no_value_of_a_knob_is_a_constant_of_the_step(optimizer: str) -> None:
    trials: list[dict[str, Any]] = [
        {"loss": "ce", "mix": "mixup", "seed": 1},
        {"loss": "vs", "loss__tau": 2.0, "mix": "mamix", "weights": "inverse"},
        {"loss": "focal", "loss__gamma": 3.0, "mix": "cutmix", "optimizer__lr": 0.01},
        {"loss": "label_aware_smoothing", "mix": "unimix", "optimizer__momentum": 0.1},
    ]
    sharp: dict[str, Any] = {} if optimizer == "sgd" else {"optimizer__rho": 0.7}
    launched = []
    for changes in (*trials, trials[0] | sharp):
        config = make_config(optimizer=optimizer, **changes)
        state = TrainState(config, DATA)
        batch = first_batch(state, epochs_of(config)[1])
        with Launched() as seen:
            state.gradient(batch)
        launched.append(seen.calls)
    assert len(launched[0]) > 40
    assert all(calls == launched[0] for calls in launched[1:])


def test_two_trials_at_once_have_a_bench_each(recording: DeviceData) -> None:
    config = make_config()
    one, other = TrainState(config, recording), TrainState(config.replace(seed=1), recording)
    assert one.graphed is not other.graphed and one.model is not other.model
    graphed_models = {one.graphed, other.graphed}
    del one, other
    gc.collect()
    third = TrainState(config, recording)
    assert third.graphed in graphed_models


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"optimizer.lr": 0.7, "loss": "vs", "precision": "bfloat16"}, True),
        ({"model.width": 3}, False),
        ({"loss": "ldam"}, False),  # whose head is another
    ],
)
def test_benches_are_for_networks_of_one_kind(
    recording: DeviceData, changes: dict[str, Any], shared: bool
) -> None:
    config = make_config()
    state = TrainState(config, recording)
    graphed = state.graphed
    del state
    gc.collect()
    other = TrainConfig.from_settings(config.flat() | changes) if shared else None
    other = other or make_config(**{k.replace(".", "__"): v for k, v in changes.items()})
    assert (TrainState(other, recording).graphed is graphed) == shared


def test_a_pooled_network_starts_as_a_new_one(recording: DeviceData) -> None:
    config = make_config(loss="gcl", after="crt")
    outcome(config.replace(seed=5), recording)
    gc.collect()
    fresh = TrainState(config, plain_data())
    pooled = TrainState(config, recording)
    assert same(everything(pooled), everything(fresh))
    assert all(w.requires_grad and w.grad is None for w in pooled.model.parameters())
    assert all(layer.training for layer in pooled.model.modules())


def test_the_switch_records_nothing(recording: DeviceData) -> None:
    state = TrainState(make_config(cuda_graph=False), recording)
    train(state, epochs_of(state.config)[:1], recording)
    assert state.graphed is None and not InPlace.recorded
    assert DATA.graphed_models is None  # nor does a CPU


@pytest.fixture
def own() -> Iterator[str]:
    """A network of the user's, who may do anything in it."""

    @models.register("own", help="a test's")
    def make(channels: int) -> Backbone:
        return Backbone(nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, 8)), 8)

    yield "own"
    models.remove("own")


@pytest.fixture
def looking() -> Iterator[str]:
    """A loss that looks at its values."""

    @losses.register("looking", help="cross-entropy, tripled where it is large")
    def make(counts_K: Tensor) -> Any:
        def loss(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
            loss_B = nn.functional.cross_entropy(logits_BK, labels_B, reduction="none")
            return 3 * loss_B if loss_B.mean() > 1 else loss_B

        return loss

    yield "looking"
    losses.remove("looking")


@pytest.mark.parametrize(
    "part", [{"model": "own"}, {"model": "mobilenet_v2"}, {"loss": "looking"}], ids=str
)
def test_what_cannot_be_recorded_is_trained_as_it_is(
    recording: DeviceData, own: str, looking: str, part: dict[str, Any]
) -> None:
    """Parts of the user's own, and a network with dropout."""
    config = make_config(**part, epochs=2)
    one, other = TrainState(config, recording), TrainState(config, plain_data())
    assert train(one, epochs_of(config), recording) == train(other, epochs_of(config), plain_data())
    assert same(everything(one), everything(other)) and not InPlace.recorded


def test_a_step_that_cannot_be_recorded_says_so() -> None:
    """As the device's failure, so that a pack goes on in a new process."""
    why = "CUDA error: operation not permitted when stream is capturing"
    says = rf"captured as a CUDA graph \({why}\): train without graphs, --set cuda_graph=false$"
    with pytest.raises(torch.AcceleratorError, match=says), explain_capture_errors():
        raise torch.AcceleratorError(f"{why}\nCompile with TORCH_USE_CUDA_DSA")
    with pytest.raises(torch.OutOfMemoryError, match=r"out of memory$"), explain_capture_errors():
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("first", [torch.OutOfMemoryError("first"), RuntimeError("first")])
def test_what_failed_first_counts_not_that_the_recording_could_not_end(first: Exception) -> None:
    def record() -> None:
        try:
            raise first
        finally:
            raise torch.AcceleratorError("operation failed due to a previous error")

    kind = torch.OutOfMemoryError if isinstance(first, torch.OutOfMemoryError) else RuntimeError
    with pytest.raises(kind, match="first"), explain_capture_errors():
        record()


def test_a_trial_that_failed_in_a_step_leaves_no_gradient(recording: DeviceData) -> None:
    config = make_config(loss="ce")
    state = TrainState(config, recording)
    state.gradient(first_batch(state, epochs_of(config)[0]))
    assert any(weight.grad is not None for weight in state.model.parameters())
    del state
    gc.collect()
    assert all(weight.grad is None for weight in TrainState(config, recording).model.parameters())


def test_a_process_keeps_few_networks_and_steps(recording: DeviceData) -> None:
    """Each holds memory; a space may search the width of the network, and the batch size."""
    assert recording.graphed_models
    for width in range(1, 3 * MAX_KEPT):
        TrainState(make_config(model__width=width), recording)
    assert len(recording.graphed_models._free) == MAX_KEPT
    for size in range(20, 20 + 2 * MAX_KEPT):
        state = TrainState(make_config(batch_size=size), recording)
        state.gradient(first_batch(state, epochs_of(state.config)[0], recording))
        assert state.graphed and len(state.graphed._steps) <= MAX_KEPT
        del state


@pytest.mark.parametrize("kind", ["cooldown", "compressed"])
def test_a_trial_has_one_graphed_model_at_a_time(recording: DeviceData, kind: str) -> None:
    config = make_config(epochs=4)
    path = rung_segments(kind, [2, 4], config.schedule.shared)
    climbing = train_through_rungs([config], recording, path)
    while next(climbing, None):  # whoever keeps a result keeps the state that it has
        pass
    gc.collect()
    assert recording.graphed_models and len(recording.graphed_models._free) == 1


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
@pytest.mark.parametrize("preset", ["erm", "mamix_drw", "ldam_drw", "cmo", "sam_drw"])
def test_an_epoch_waits_for_nothing_on_a_gpu(preset: str) -> None:
    """torch raises where the host waits for the device."""
    data = DeviceData(make_splits([60, 20, 8, 4], 8), torch.device("cuda"))
    config = preset_config(preset, epochs=3, batch_size=40)
    state = TrainState(config, data)
    first, second, third = epochs_of(config)
    for epoch in (first, third):  # all shapes of the run are recorded
        train_epoch(state, data, epoch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        log, evaluation = train_epoch(state, data, second), state.evaluation(data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(log.loss) and evaluation.confusion_KK.sum() == 32


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
@pytest.mark.parametrize("preset", ["erm", "mamix_drw", "gcl", "cmo", "sam_drw", "imbsam", "m2m"])
def test_a_cuda_graph_gives_the_plain_steps_figures(preset: str) -> None:
    """Losses of all epochs within a thousandth: libraries may add in another order."""
    data = DeviceData(make_splits([60, 20, 8, 4], 8), torch.device("cuda"))
    config = preset_config(preset, epochs=4, batch_size=40, precision="float32")
    with_graph = TrainState(config, data)
    without = TrainState(config.replace(cuda_graph=False), data)
    assert isinstance(with_graph.graphed, GraphedModel) and without.graphed is None
    epochs = epochs_of(config)
    assert train(with_graph, epochs, data) == pytest.approx(train(without, epochs, data), rel=1e-3)
