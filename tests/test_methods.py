"""Class weights, samplers, schedules and optimisers; and contracts over every registered part."""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter as Weight

from imbtune.config import TrainConfig
from imbtune.methods.mixing import blends, label_rules, pairings
from imbtune.methods.optimizers import optimizers
from imbtune.methods.sampling import draw_indices, samplers
from imbtune.methods.schedules import schedules
from imbtune.methods.weighting import effective_number, inverse, strength, weights
from imbtune.registry import Entry, Knob, Registry
from imbtune.slots import SLOTS
from imbtune.training.device_data import DeviceData
from imbtune.training.loop import TrainState, train_epoch
from imbtune.training.progress import whole_run

REGISTRIES: list[Registry] = [*SLOTS.values(), pairings, blends, label_rules]
ENTRIES = [entry for registry in REGISTRIES for entry in registry]
PARTS = [(entry.slot, entry.name) for entry in ENTRIES if entry.slot in {*SLOTS} - {"data"}]
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.slot}-{e.name}")

class_sizes = st.lists(st.integers(1, 10_000), min_size=2, max_size=8)


# ---- contracts: what every registered part promises --------------------------------------------


def within(value: float, knob: Knob) -> bool:
    low = -math.inf if knob.low is None else knob.low
    high = math.inf if knob.high is None else knob.high
    return low <= value <= high


@every_entry
def test_parts_and_knobs_are_documented_with_valid_defaults(entry: Entry) -> None:
    assert entry.help
    assert callable(entry.make)
    for name, parameter in entry.parameters.items():
        knob = parameter.knob
        assert knob.help and parameter.type in (str, int, float, bool)
        assert parameter.check(f"{entry.slot}.{name}", parameter.default) == parameter.default
        assert (parameter.type is str) == bool(knob.choices)
        if knob.search:
            start, stop = knob.search
            assert start < stop and within(start, knob) and within(stop, knob)
            assert knob.scale != "log" or start > 0
            assert knob.scale != "complement" or stop < 1


# Plain textbook parts. Whatever else is registered says which paper it, or its knobs, comes from.
TEXTBOOK = ["model-small_cnn", "mix-none", "loss-ce", "weights-none", "weights-inverse"]
TEXTBOOK += ["sampler-instance"]


@every_entry
def test_parts_name_their_papers(entry: Entry) -> None:
    shared = SLOTS[entry.slot].shared_parameters if entry.slot in SLOTS else {}
    own = [p.knob for name, p in entry.parameters.items() if name not in shared]
    sourced = bool(entry.source) or any(knob.source for knob in own)
    assert sourced or f"{entry.slot}-{entry.name}" in TEXTBOOK


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.slot)
def test_knobs_of_one_name_share_type_and_range(registry: Registry) -> None:
    """A search space sets a knob of a slot once, for all parts that have it."""
    kinds = defaultdict(set)
    for entry in registry:
        for name, parameter in entry.parameters.items():
            knob = parameter.knob
            kinds[name].add((parameter.type, knob.low, knob.high, knob.choices))
    assert {name: len(found) for name, found in kinds.items()} == dict.fromkeys(kinds, 1)


def small_config(slot: str, name: str) -> TrainConfig:
    cheap = {"model.width": 4} if slot != "model" else {}
    return TrainConfig.from_settings(
        cheap | {slot: name, "epochs": 2, "batch_size": 30, "precision": "float32"}
    )


@pytest.mark.parametrize(("slot", "name"), PARTS)
def test_every_part_trains_with_its_defaults(slot: str, name: str, device_data: DeviceData) -> None:
    """One epoch of trunk and one of cool-down: finite, changing the weights, twice the same."""
    config = pickle.loads(pickle.dumps(small_config(slot, name)))
    assert config == small_config(slot, name)
    trained = []
    for _ in range(2):
        state = TrainState(config, device_data)
        fresh = [weight.clone() for weight in state.model.parameters()]
        losses = [
            train_epoch(state, device_data, epoch)[1]
            for epoch in whole_run(2, config.schedule.shared)
        ]
        assert all(math.isfinite(loss) for loss in losses)
        assert all(bool(weight.isfinite().all()) for weight in state.model.parameters())
        moved = zip(state.model.parameters(), fresh, strict=True)
        assert all(not torch.equal(weight, before) for weight, before in moved)
        trained.append(list(state.model.state_dict().values()))
    assert all(torch.equal(a, b) for a, b in zip(*trained, strict=True))


# ---- class weights -----------------------------------------------------------------------------


@given(class_sizes, st.one_of(st.floats(0, 0.9999999), st.just(0.9999), st.just(0.9999999)))
def test_effective_number_weights_are_the_papers(counts: list[int], beta: float) -> None:
    """w_k = K·[(1-β)/(1-β^n_k)] / Σ_j[(1-β)/(1-β^n_j)], in 60 decimal digits."""
    with localcontext(prec=60):
        raw = [(1 - Decimal(beta)) / (1 - Decimal(beta) ** n) for n in counts]
        literal = [float(len(counts) * w / sum(raw)) for w in raw]
    weights_K = effective_number(torch.tensor(counts, dtype=torch.float32), beta=beta)
    assert weights_K.tolist() == pytest.approx(literal, rel=2e-6)


@given(class_sizes, st.floats(0, 4))
def test_inverse_weights_are_powers_of_the_class_size(counts: list[int], power: float) -> None:
    raw = [n**-power for n in counts]
    literal = [len(counts) * w / sum(raw) for w in raw]
    weights_K = inverse(torch.tensor(counts, dtype=torch.float32), power=power)
    assert weights_K.tolist() == pytest.approx(literal, rel=1e-4)


@pytest.mark.parametrize("name", weights.names())
@given(counts=class_sizes)
def test_weights_have_mean_1_and_favour_the_rare(name: str, counts: list[int]) -> None:
    counts_K = torch.tensor(counts, dtype=torch.float32)
    weights_K = weights[name].make(counts_K)
    assert weights_K.dtype == torch.float32 and bool((weights_K > 0).all())
    assert weights_K.mean().item() == pytest.approx(1, rel=1e-5)
    assert bool((weights_K[counts_K.argsort()].diff() <= 1e-6).all())


@given(class_sizes)
def test_no_weighting_at_beta_0_and_inverse_frequency_towards_1(counts: list[int]) -> None:
    counts_K = torch.tensor(counts, dtype=torch.float32)
    assert torch.equal(effective_number(counts_K, beta=0.0), torch.ones(len(counts)))
    torch.testing.assert_close(
        effective_number(counts_K, beta=0.9999999), inverse(counts_K), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    ("counts", "mean"),
    [
        ([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], 0.171),  # CIFAR-10, exp, 100
        ([5000] * 5 + [50] * 5, 0.044),  # step
    ],
)
def test_mean_weight_of_an_image_is_what_was_measured_in_the_reference(
    counts: list[int], mean: float
) -> None:
    counts_K = torch.tensor(counts, dtype=torch.float32)
    weights_K = effective_number(counts_K)
    image_mean = (counts_K * weights_K).sum() / counts_K.sum()
    assert image_mean.item() == pytest.approx(mean, abs=6e-4)


@given(st.floats(0, 1))
def test_strength_follows_the_schedule(cooldown: float) -> None:
    assert strength("never", cooldown) == 0
    assert strength("always", cooldown) == 1
    assert strength("deferred", cooldown) == (1 if cooldown > 0 else 0)
    assert strength("ramp", cooldown) == cooldown


def test_every_weight_schedule_has_a_strength() -> None:
    for name in weights.shared_parameters["schedule"].knob.choices:
        assert 0 <= strength(name, 0.5) <= 1


# ---- samplers ----------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 130), st.integers(0, 10**6))
def test_instance_sampling_lays_permutations_end_to_end(n: int, total: int, seed: int) -> None:
    drawn = draw_indices(None, np.zeros(n, dtype=np.int64), total, np.random.default_rng(seed))
    assert len(drawn) == total
    for at in range(0, total, n):
        lap = drawn[at : at + n]
        assert len(set(lap)) == len(lap) and set(lap) <= set(range(n))


@pytest.mark.parametrize("name", ["class_balanced", "square_root"])
def test_classes_and_their_images_are_drawn_as_often_as_they_should(name: str) -> None:
    """Within five standard deviations, on unsorted labels."""
    counts_K = np.array([300, 12, 60, 1])
    labels_N = np.random.default_rng(5).permutation(np.repeat(np.arange(4), counts_K))
    total = 40_000
    share_K = counts_K**0.0 if name == "class_balanced" else counts_K**0.5
    share_K = share_K / share_K.sum()
    probabilities_K = samplers[name].make(counts_K.astype(np.float64))
    assert probabilities_K == pytest.approx(share_K)
    drawn = draw_indices(probabilities_K, labels_N, total, np.random.default_rng(0))
    seen_N = np.bincount(drawn, minlength=len(labels_N))
    expected_N = total * (share_K / counts_K)[labels_N]
    assert (np.abs(seen_N - expected_N) < 5 * np.sqrt(expected_N)).all()
    seen_K = np.bincount(labels_N[drawn], minlength=4)
    assert (np.abs(seen_K - total * share_K) < 5 * np.sqrt(total * share_K)).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10**6))
def test_drawn_images_exist_and_draws_repeat(labels: list[int], seed: int) -> None:
    labels_N = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    probabilities_K = samplers["class_balanced"].make(np.bincount(labels_N).astype(float))
    first, again = (
        draw_indices(probabilities_K, labels_N, 50, np.random.default_rng(seed)) for _ in range(2)
    )
    assert set(first) <= set(range(len(labels_N)))
    assert np.array_equal(first, again)


# ---- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", schedules.names())
def test_the_rate_is_whole_in_the_trunk_and_never_rises_in_the_cooldown(name: str) -> None:
    rates = [schedules[name].make(share) for share in np.linspace(0, 1, 101)]
    assert rates[0] == 1
    assert (np.diff(rates) <= 0).all()
    assert 0 <= rates[-1] < 0.01


@given(st.floats(0, 1))
def test_linear_and_cosine_are_symmetric_about_the_middle(share: float) -> None:
    for name in ("linear", "cosine"):
        decay = schedules[name].make
        assert decay(share) + decay(1 - share) == pytest.approx(1)


@given(st.floats(1e-4, 1), st.floats(0, 1))
def test_step_drops_at_the_start_and_at_the_middle(drop: float, share: float) -> None:
    expected = 1.0 if share == 0 else drop if share < 0.5 else drop * drop
    assert schedules["step"].make(share, drop=drop) == pytest.approx(expected)


# ---- optimisers --------------------------------------------------------------------------------


def gradients(steps: int) -> list[list[float]]:
    drawn: list[list[float]] = np.random.default_rng(2).normal(size=(steps, 3)).tolist()
    return drawn


def after_steps(name: str, rates: list[float], **knobs: float | bool) -> list[float]:
    """Three weights, from (1, -2, 0.5), after a step at each rate, set as the loop sets it."""
    weight = Weight(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = optimizers[name].make([weight], **knobs)
    for rate, gradient in zip(rates, gradients(len(rates)), strict=True):
        weight.grad = torch.tensor(gradient)
        lr: Tensor = optimizer.param_groups[0]["lr"]
        lr.copy_(torch.tensor(rate))
        optimizer.step()
    values: list[float] = weight.tolist()
    return values


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, True), (0.9, False), (0.9, True)])
def test_sgd_steps_by_hand(momentum: float, nesterov: bool) -> None:
    rates, decay = [0.1, 0.1, 0.001], 0.01
    literal = [1.0, -2.0, 0.5]
    velocity = [0.0, 0.0, 0.0]
    for rate, gradient in zip(rates, gradients(3), strict=True):
        for i in range(3):
            slope = gradient[i] + decay * literal[i]
            velocity[i] = momentum * velocity[i] + slope
            literal[i] -= rate * (slope + momentum * velocity[i] if nesterov else velocity[i])
    got = after_steps("sgd", rates, weight_decay=decay, momentum=momentum, nesterov=nesterov)
    assert got == pytest.approx(literal, rel=1e-5)


def test_adamw_steps_by_hand() -> None:
    rates, decay = [0.1, 0.1, 0.001], 0.02
    literal = [1.0, -2.0, 0.5]
    m, v = [0.0] * 3, [0.0] * 3
    for t, (rate, gradient) in enumerate(zip(rates, gradients(3), strict=True), 1):
        for i in range(3):
            m[i] = 0.9 * m[i] + 0.1 * gradient[i]
            v[i] = 0.999 * v[i] + 0.001 * gradient[i] ** 2
            step = (m[i] / (1 - 0.9**t)) / (math.sqrt(v[i] / (1 - 0.999**t)) + 1e-8)
            literal[i] -= rate * (decay * literal[i] + step)
    assert after_steps("adamw", rates, weight_decay=decay) == pytest.approx(literal, rel=1e-5)


@pytest.mark.parametrize("name", optimizers.names())
def test_the_peak_rate_is_one_tensor(name: str) -> None:
    """The loop writes each step's rate into it."""
    optimizer = optimizers[name].make([Weight(torch.ones(2))], lr=0.25)
    (group,) = optimizer.param_groups
    assert isinstance(group["lr"], Tensor) and group["lr"].item() == 0.25
