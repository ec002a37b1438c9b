"""Class weights, samplers, schedules and optimisers; and contracts over every registered part."""

from __future__ import annotations

import math
import pickle
from collections import defaultdict
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter as Weight

from imbtune.config.slots import SLOTS, registries
from imbtune.methods.class_sampling import class_shares, draw_indices, samplers
from imbtune.methods.class_weights import (
    WeightOptions,
    effective_number,
    inverse,
    strength,
    weights,
)
from imbtune.methods.losses import losses, margin_softmax
from imbtune.methods.lr_schedules import schedules
from imbtune.methods.mixing.blending import Pairs, blends
from imbtune.methods.mixing.label_rules import label_rules
from imbtune.methods.optimizers import Sharpness, SharpSGD, optimizers
from imbtune.methods.posthoc import posthoc_methods
from imbtune.registry import Knob, Part, Registry, describe_range

REGISTRIES = registries()
ENTRIES = [entry for registry in REGISTRIES for entry in registry]
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.slot}-{e.name}")

class_sizes = st.lists(st.integers(1, 10_000), min_size=2, max_size=8)


# ---- contracts: what every registered part promises --------------------------------------------


def within(value: float, knob: Knob) -> bool:
    low = -math.inf if knob.low is None else knob.low
    high = math.inf if knob.high is None else knob.high
    return low <= value <= high


@every_entry
def test_parts_and_knobs_are_documented_with_valid_defaults(entry: Part) -> None:
    assert entry.help
    assert callable(entry.make)
    for name, parameter in entry.knobs.items():
        knob = parameter.knob
        assert knob.help and parameter.type in (str, int, float, bool)
        assert parameter.check(f"{entry.slot}.{name}", parameter.default) == parameter.default
        assert (parameter.type is str) == bool(knob.choices or knob.pattern)
        assert describe_range(knob)
        assert (parameter.type in (int, float)) == (knob.low is not None)
        if knob.search:
            start, stop = knob.search
            assert start < stop and within(start, knob) and within(stop, knob)
            assert knob.scale != "log" or start > 0
            assert knob.scale != "complement" or stop < 1


# Plain textbook parts. Whatever else is registered says which paper it, or its knobs, comes from.
TEXTBOOK = ["model-small_cnn", "mix-none", "loss-ce", "weights-none", "weights-inverse"]
TEXTBOOK += ["sampler-instance", "generate-none", "after-none"]
TEXTBOOK += ["data-folder", "data-parquet", "data-npz"]  # the user's own


@every_entry
def test_parts_name_their_papers(entry: Part) -> None:
    shared = SLOTS[entry.slot].shared_knobs if entry.slot in SLOTS else {}
    own = [p.knob for name, p in entry.knobs.items() if name not in shared]
    sourced = bool(entry.source) or any(knob.source for knob in own)
    assert sourced or f"{entry.slot}-{entry.name}" in TEXTBOOK


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.slot)
def test_knobs_of_one_name_share_type_and_range(registry: Registry) -> None:
    """A search space sets a knob of a slot once, for all parts that have it."""
    kinds = defaultdict(set)
    for entry in registry:
        for name, parameter in entry.knobs.items():
            knob = parameter.knob
            kinds[name].add((parameter.type, knob.low, knob.high, knob.choices))
    assert {name: len(found) for name, found in kinds.items()} == dict.fromkeys(kinds, 1)


COUNTS = [5000, 387, 50, 50, 1]
# On a GPU where there is one; `meta` has no numbers, and refuses to meet a tensor made elsewhere
DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]


def tensors_of(slot: str, name: str, device: str) -> list[Tensor]:
    """What a part makes out of class counts on a device."""
    counts_K = torch.tensor(COUNTS, dtype=torch.float32, device=device)
    if slot == "loss":
        return [*losses[name].make(counts_K)]
    if slot == "weights":
        return [weights[name].make(counts_K)]
    if slot == "label":
        return [label_rules[name].make(counts_K / 5001, counts_K, counts_K.flip(0))]
    made = posthoc_methods[name].make(counts_K, counts_K.sqrt(), counts_K.max() / 500)
    return list(vars(made).values()) if name in ("logit_adjustment", "tau_norm") else []


FROM_COUNTS = [
    (registry.slot, entry.name)
    for registry in (losses, weights, label_rules, posthoc_methods)
    for entry in registry
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("slot", "name"), FROM_COUNTS)
def test_what_is_made_of_class_counts_stays_on_their_device(
    slot: str, name: str, device: str
) -> None:
    """Shapes, type and place; and it comes back from the device, and out of a pickle, as it was."""
    here, there = tensors_of(slot, name, "cpu"), tensors_of(slot, name, device)
    for expected, made in zip(here, there, strict=True):
        assert made.device.type == device and made.dtype == torch.float32
        assert made.shape == expected.shape and made.shape in ((), (len(COUNTS),))
        if device != "meta":
            torch.testing.assert_close(expected.to(device).cpu(), expected, rtol=0, atol=0)
            torch.testing.assert_close(made.cpu(), expected)
            assert torch.equal(pickle.loads(pickle.dumps(expected)), expected)
            assert bool(expected.isfinite().all())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", losses.names())
def test_every_loss_has_a_value_a_sample_and_a_gradient_on_any_device(
    name: str, device: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(7, len(COUNTS), generator=generator).to(device).requires_grad_()
    labels_B = torch.tensor([0, 1, 2, 3, 4, 4, 0], device=device)
    noise_BK = torch.full((7, len(COUNTS)), 0.5, device=device)
    vectors = losses[name].make(torch.tensor(COUNTS, dtype=torch.float32, device=device))
    loss_B = margin_softmax(logits_BK, labels_B, vectors, noise_BK)
    loss_B.sum().backward()
    assert loss_B.shape == (7,) and loss_B.device.type == device
    assert logits_BK.grad is not None and logits_BK.grad.shape == logits_BK.shape
    if device != "meta":
        assert bool(logits_BK.grad.isfinite().all()) and bool((logits_BK.grad != 0).any())


@pytest.mark.parametrize("name", blends.names())
def test_a_generator_decides_a_blend(name: str) -> None:
    """The same state draws the same, another one another, and nobody else's generator moves."""
    pairs = Pairs((8, 8), np.full((3, 4), 50.0), np.full((3, 4), 5.0))
    before = str(np.random.get_state()), torch.get_rng_state()
    same, again, other = (
        blends[name].make((3, 4), pairs, np.random.default_rng(seed)).lam_SB for seed in (1, 1, 2)
    )
    assert np.array_equal(same, again) and not np.array_equal(same, other)
    assert str(np.random.get_state()) == before[0] and torch.equal(torch.get_rng_state(), before[1])


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


def literal_strength(schedule: str, cooldown: float, progress: float) -> float:
    """The share of the class weights that acts; GLMC's has 1 - (t/T)² of the plain loss."""
    if schedule == "never":
        return 0
    if schedule == "always":
        return 1
    if schedule == "deferred":
        return 1 if cooldown > 0 else 0
    if schedule == "linear":
        return cooldown
    if schedule == "cosine":
        return math.sin(math.pi * cooldown / 2) ** 2
    return 1 - (1 - progress * progress)


SCHEDULES = weights.shared_knobs["schedule"].knob.choices
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def test_the_weight_schedules() -> None:
    assert SCHEDULES == ("never", "always", "deferred", "linear", "cosine", "cumulative")


@every_schedule
@given(cooldown=st.floats(0, 1), progress=st.floats(0, 1))
def test_strength_follows_the_schedule(schedule: str, cooldown: float, progress: float) -> None:
    literal = literal_strength(schedule, cooldown, progress)
    assert strength(WeightOptions(schedule), cooldown, progress) == pytest.approx(
        literal, abs=1e-12
    )


@pytest.mark.parametrize(
    ("schedule", "start", "trunk", "turn", "end"),
    [
        ("never", 0, 0, 0, 0),
        ("always", 1, 1, 1, 1),
        ("deferred", 0, 0, 1, 1),
        ("linear", 0, 0, 0.25, 1),
        ("cosine", 0, 0, (1 - math.sqrt(0.5)) / 2, 1),
        ("cumulative", 0, 0.25, 0.7225, 1),
    ],
)
def test_strength_at_the_start_in_the_trunk_in_the_cooldown_and_at_the_end(
    schedule: str, start: float, trunk: float, turn: float, end: float
) -> None:
    """A cool-down of 0.2, as the paper's: a quarter of it is done at 0.85 of the run."""
    at = [(0.0, 0.0), (0.0, 0.5), (0.25, 0.85), (1.0, 1.0)]
    seen = [strength(WeightOptions(schedule), cooldown, progress) for cooldown, progress in at]
    assert seen == pytest.approx([start, trunk, turn, end])


@every_schedule
@given(cooldowns=st.tuples(st.floats(0, 1), st.floats(0, 1)), progress=st.floats(0, 1))
def test_strength_never_falls(
    schedule: str, cooldowns: tuple[float, float], progress: float
) -> None:
    earlier, later = sorted(cooldowns)
    options = WeightOptions(schedule)
    for first, second in (
        (strength(options, earlier, progress), strength(options, later, progress)),
        (strength(options, progress, earlier), strength(options, progress, later)),
    ):
        assert 0 <= first <= second <= 1


@every_schedule
@given(start=st.floats(0, 0.99), cooldown=st.floats(0, 1))
def test_a_later_start_moves_the_schedule_into_the_rest_of_the_cooldown(
    schedule: str, start: float, cooldown: float
) -> None:
    got = strength(WeightOptions(schedule, start), cooldown, 0.5)
    if schedule in ("deferred", "linear", "cosine"):
        rest = (cooldown - start) / (1 - start)
        expected = literal_strength(schedule, rest, 0.5) if cooldown > start else 0.0
    else:
        expected = literal_strength(schedule, cooldown, 0.5)
    assert got == pytest.approx(expected, abs=1e-9)


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
    probabilities_K = samplers[name].make(counts_K, 0.5)
    assert probabilities_K == pytest.approx(share_K)
    drawn = draw_indices(probabilities_K, labels_N, total, np.random.default_rng(0))
    seen_N = np.bincount(drawn, minlength=len(labels_N))
    expected_N = total * (share_K / counts_K)[labels_N]
    assert (np.abs(seen_N - expected_N) < 5 * np.sqrt(expected_N)).all()
    seen_K = np.bincount(labels_N[drawn], minlength=4)
    assert (np.abs(seen_K - total * share_K) < 5 * np.sqrt(total * share_K)).all()


@pytest.mark.parametrize("name", samplers.names())
@given(counts=st.lists(st.integers(0, 10_000), min_size=1, max_size=8), progress=st.floats(0, 1))
def test_class_probabilities_are_probabilities(
    name: str, counts: list[int], progress: float
) -> None:
    """Of classes with images alone, and the rarer never more often than the larger."""
    counts_K = np.array([*counts, 7])
    probabilities_K = samplers[name].make(counts_K, progress)
    if name == "instance":
        assert probabilities_K is None
        return
    assert probabilities_K.shape == counts_K.shape and (probabilities_K >= 0).all()
    assert probabilities_K.sum() == pytest.approx(1, abs=1e-12)
    assert ((probabilities_K > 0) == (counts_K > 0)).all()
    rising = probabilities_K[np.argsort(counts_K)]
    assert (np.diff(rising) >= -1e-12).all()


@given(class_sizes, st.floats(0, 1))
def test_progressively_balanced_goes_from_instance_to_class_balanced(
    counts: list[int], progress: float
) -> None:
    """p_k = (1-t)·n_k/N + t/K of Kang et al."""
    pick = samplers["progressively_balanced"].make
    counts_K = np.array(counts)
    literal = [(1 - progress) * n / sum(counts) + progress * 1 / len(counts) for n in counts]
    assert pick(counts_K, progress).tolist() == pytest.approx(literal)
    assert pick(counts_K, 0.0).tolist() == pytest.approx([n / sum(counts) for n in counts])
    balanced = samplers["class_balanced"].make(counts_K, 0.3)
    assert np.array_equal(pick(counts_K, 1.0), balanced)
    assert balanced.tolist() == pytest.approx([1 / len(counts)] * len(counts))


@given(class_sizes, st.floats(-4, 4))
def test_class_shares_are_powers_of_the_class_size(counts: list[int], power: float) -> None:
    raw = [n**power for n in counts]
    literal = [w / sum(raw) for w in raw]
    assert class_shares(np.array(counts), power).tolist() == pytest.approx(literal)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 10**6))
def test_drawn_images_exist_and_draws_repeat(labels: list[int], seed: int) -> None:
    labels_N = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    probabilities_K = samplers["class_balanced"].make(np.bincount(labels_N), 0.5)
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


# ---- sharpness ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "knobs", "sharpness"),
    [
        ("sam", {}, Sharpness(0.1, math.inf)),
        ("sam", {"rho": 0.7}, Sharpness(0.7, math.inf)),
        ("imbsam", {}, Sharpness(0.05, 100)),
        ("imbsam", {"rho": 0.2, "below": 20}, Sharpness(0.2, 20)),
    ],
)
def test_sam_says_how_sharp_and_for_which_classes(
    name: str, knobs: dict[str, float], sharpness: Sharpness
) -> None:
    optimizer = optimizers[name].make([Weight(torch.ones(2))], **knobs)
    assert isinstance(optimizer, SharpSGD) and optimizer.sharpness == sharpness


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_plain_optimizers_ask_for_no_sharpness(name: str) -> None:
    assert not hasattr(optimizers[name].make([Weight(torch.ones(2))]), "sharpness")


@pytest.mark.parametrize("name", ["sam", "imbsam"])
@given(
    decay=st.floats(0, 0.1),
    momentum=st.floats(0, 0.99),
    nesterov=st.booleans(),
    rates=st.lists(st.floats(1e-3, 0.5), min_size=1, max_size=4),
)
@settings(max_examples=30)
def test_with_a_gradient_given_a_sharp_optimizer_steps_as_sgd(
    name: str, decay: float, momentum: float, nesterov: bool, rates: list[float]
) -> None:
    knobs = {"weight_decay": decay, "momentum": momentum, "nesterov": nesterov}
    assert after_steps(name, rates, **knobs) == after_steps("sgd", rates, **knobs)
