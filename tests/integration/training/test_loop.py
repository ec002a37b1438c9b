"""Networks learn, the tail with the methods for it; a branch that is undone leaves no trace."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from short_runs import CPU, DATA, everything, make_config, preset_config, same, train, trained
from small_data import make_splits

from imbtune.data.splits import Images, Splits
from imbtune.methods.lr_schedules import Phases
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion
from imbtune.spaces.presets import PRESETS
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import cooldown, trunk
from imbtune.training.state import TrainState


def test_a_network_learns_four_classes_and_not_from_shuffled_labels() -> None:
    splits = make_splits([40] * 4)
    config = make_config(epochs=10, model__width=8, optimizer__lr=0.05, batch_size=20)
    data = DeviceData(splits, CPU)
    learned = compute(Confusion.of(trained(config, data).evaluate(data), data.counts_K))
    labels = np.random.default_rng(0).permutation(splits.train.labels)
    train_images = Images(splits.train.pixels, labels)
    wrong = DeviceData(
        Splits(train_images, splits.held_out, splits.classes, splits.preprocessing), CPU
    )
    misled = compute(Confusion.of(trained(config, wrong).evaluate(wrong), wrong.counts_K))
    assert learned["balanced_accuracy"] is not None and misled["balanced_accuracy"] is not None
    assert learned["balanced_accuracy"] > 0.85
    assert misled["balanced_accuracy"] < 0.6


def test_deferred_reweighting_raises_the_recall_of_the_tail() -> None:
    """Over three seeds; the trunks are the same runs, so the weights alone make the difference."""
    data = DeviceData(make_splits([60, 20, 6, 3], held=25), CPU)
    few: dict[str, list[float]] = {"none": [], "inverse": []}
    for weights, seen in few.items():
        for seed in range(3):
            config = make_config(
                weights=weights, seed=seed, epochs=10, batch_size=16, model__width=8,
                optimizer__lr=0.02, schedule="linear", schedule__cooldown=0.5,
            )  # fmt: skip
            figures = compute(Confusion.of(trained(config, data).evaluate(data), data.counts_K))
            assert figures["few"] is not None
            seen.append(figures["few"])
    assert np.mean(few["inverse"]) > np.mean(few["none"]) + 0.2


@pytest.mark.parametrize(
    "preset", ["cb", "mamix_drw", "ldam_drw", "smote", "gcl", "crt", "post_hoc", "imbsam", "unimix"]
)
def test_the_literatures_methods_learn(preset: str) -> None:
    data = DeviceData(make_splits([60, 30, 20, 12]), CPU)
    config = preset_config(
        preset, epochs=12, batch_size=16, model__width=8, optimizer__lr=0.05, schedule="cosine",
        after__share=1.0,
    )  # fmt: skip
    state = trained(config, data)
    apply_posthoc(state, data, 12)
    figures = compute(Confusion.of(state.evaluate(data), data.counts_K))
    assert figures["balanced_accuracy"] is not None
    assert figures["balanced_accuracy"] > 0.6


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_branches_and_goes_on_as_if_nothing_had_happened(preset: str) -> None:
    """Helper networks, second stages and adjusted heads in the branch as well."""
    config = preset_config(preset, epochs=4)
    straight, branched = TrainState(config, DATA), TrainState(config, DATA)
    before, after = trunk(0, 1, 4, Phases()), trunk(1, 3, 4, Phases())
    assert train(straight, before) == train(branched, before)
    with branched.temporarily(branched.methods):
        train(branched, cooldown(1, 2, 4, Phases()))
        apply_posthoc(branched, DATA, 2)
    assert same(everything(branched), everything(straight))
    assert train(branched, after) == train(straight, after)
    assert same(everything(branched), everything(straight))


@cache
def colour_data() -> DeviceData:
    return DeviceData(make_splits([12, 4], size=32, channels=3), CPU)


@pytest.mark.parametrize("turn", [0, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("model", ["small_cnn", "mobilenet_v3_small"])
def test_a_branch_leaves_the_trunk_as_it_was_to_the_last_bit(
    model: str, optimizer: str, turn: int
) -> None:
    """Weights, statistics, optimiser and later draws (the second model has dropout), whether the
    branch comes before the first step or later."""
    data = DATA if model == "small_cnn" else colour_data()
    config = make_config(
        model=model, optimizer=optimizer, mix="mixup", weights="inverse", batch_size=16
    )
    before, after = trunk(0, turn, 6, Phases()), trunk(turn, 4, 6, Phases())
    straight, branched = TrainState(config, data), TrainState(config, data)
    losses = train(straight, before, data)
    assert train(branched, before, data) == losses
    with branched.temporarily(branched.methods):
        train(branched, cooldown(turn, turn + 2, 6, Phases()), data)
        branched.evaluate(data)
        assert not same(everything(branched), everything(straight))
    assert same(everything(branched), everything(straight))
    assert train(branched, after, data) == train(straight, after, data)
    assert same(everything(branched), everything(straight))
