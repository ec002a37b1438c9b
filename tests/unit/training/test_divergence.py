"""A loss or logits that are not finite: seen at once, named, and the end of what they belong to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diverging import FROM_THE_FIRST, GROWING, IN_THE_COOLDOWN, ONLY_SCORED, bad_parts
from rung_runs import configs_of, phases_of, rungs_on, score_of
from short_runs import CHEAP, CPU, DATA, make_config, trained
from small_data import make_splits
from torch import Tensor, nn

from imbtune.config.train_config import TrainConfig
from imbtune.errors import DivergenceError
from imbtune.methods.image_generation import DeepSmote
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.evaluation.margins import example_margins
from imbtune.training.evaluation.metrics import evaluate
from imbtune.training.generators import deepsmote
from imbtune.training.loop import EpochLog
from imbtune.training.phases import Segment, rung_segments, without_variant
from imbtune.training.rungs import Diverged, EpochResult, Result, RungResult, train_through_rungs


@pytest.fixture(autouse=True)
def _parts() -> Iterator[None]:
    with bad_parts():
        yield


def results_of(*variants: dict[str, Any], kind: str = "cooldown") -> list[Result]:
    configs = configs_of(variants)
    return list(
        train_through_rungs(configs, DATA, rung_segments(kind, [3, 9], *phases_of(configs)))
    )


def short(results: Sequence[Result]) -> list[tuple[str, int, object]]:
    """Rungs and divergences: what, its budget, and the variants."""
    return [
        ("score", r.segment.budget, r.segment.variant)
        if isinstance(r, RungResult)
        else ("diverged", r.segment.budget, tuple(r.variants))
        for r in results
        if not isinstance(r, EpochResult)
    ]


# ---- what is seen ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ([1.0, math.nan, 1.0], "nan"),
        ([1.0, math.inf], "inf"),
        ([-math.inf, 1.0], "-inf"),
        ([math.inf, -math.inf], "nan"),
        ([3e38, 3e38], "inf"),  # their sum overflows
    ],
)
def test_one_step_of_an_epoch_is_enough(losses: list[float], text: str) -> None:
    log = EpochLog(0.1, torch.tensor(losses))
    assert log.failure == f"the loss is not finite ({text})"
    with pytest.raises(DivergenceError, match=f"the loss is not finite \\({text}\\)"):
        log.check()


def test_a_large_loss_is_finite() -> None:
    log = EpochLog(0.1, torch.tensor([1e37, 1e37]))
    assert log.failure is None
    log.check()


class Says(nn.Module):
    """Gives the first images of a batch one bad logit."""

    def __init__(self, bad: float, count: int) -> None:
        super().__init__()
        self.bad, self.count = bad, count

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BK = torch.zeros(len(images_BCHW), 4)
        logits_BK[: self.count, 2] = self.bad
        return logits_BK


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("count", [1, 40])
def test_one_logit_of_one_image_is_enough(bad: float, count: int) -> None:
    result = evaluate(Says(bad, count), DATA, torch.autocast("cpu", enabled=False))
    assert result.failure == f"the logits of {count} of 40 images are not finite"
    with pytest.raises(DivergenceError, match=f"the logits of {count} of 40"):
        _ = result.confusion_KK


def test_finite_logits_are_counted() -> None:
    result = evaluate(Says(1.0, 0), DATA, torch.autocast("cpu", enabled=False))
    assert result.failure is None
    assert np.array_equal(result.confusion_KK, [[10, 0, 0, 0]] * 4)


def test_margins_of_logits_that_are_not_finite_are_refused() -> None:
    state = trained(make_config(epochs=1))
    with torch.no_grad():
        state.model.bias_K[1] = -torch.inf  # never the largest: all other margins stay finite
    with pytest.raises(DivergenceError, match="the logits of 87 of 87 images are not finite"):
        example_margins(state, DATA, DATA.train, DATA.labels_N)


# ---- what it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cooldown", "compressed", "prefix"])
def test_a_loss_that_is_bad_at_once_ends_the_trial_in_its_first_epoch(kind: str) -> None:
    first, last = results_of(FROM_THE_FIRST, kind=kind)
    assert isinstance(first, EpochResult) and first.failure
    assert isinstance(last, Diverged) and last.following is None
    assert last.reason.startswith("epoch 1: the loss is not finite (")


def test_weights_that_grow_end_the_trial_when_they_overflow() -> None:
    *before, last = results_of(GROWING)
    assert isinstance(last, Diverged) and last.reason.startswith("epoch ")
    epochs = [r for r in before if isinstance(r, EpochResult)]
    assert all(r.failure is None for r in epochs[:-1]) and epochs[-1].failure
    assert last.reason == f"epoch {epochs[-1].epoch.index + 1}: {epochs[-1].failure}"


def test_class_weights_of_zero_divide_zero_by_zero() -> None:
    *_, last = results_of(IN_THE_COOLDOWN)
    assert isinstance(last, Diverged)
    assert last.reason == "epoch 3 (cool-down of 3 epochs): the loss is not finite (nan)"
    *_, last = results_of({**IN_THE_COOLDOWN, "weights.schedule": "always"})
    assert isinstance(last, Diverged)
    assert last.reason == "epoch 1: the loss is not finite (nan)"


def test_a_model_that_is_bad_only_when_it_is_scored_is_not_scored() -> None:
    *before, last = results_of(ONLY_SCORED)
    assert all(isinstance(r, EpochResult) and r.failure is None for r in before)
    assert isinstance(last, Diverged)
    assert last.reason == "epoch 3: after=bad_after: the logits' scale or bias is not finite"


@pytest.mark.parametrize("bad", [IN_THE_COOLDOWN, ONLY_SCORED])
@pytest.mark.parametrize("first", [True, False])
def test_a_variant_that_diverges_leaves_the_others_as_they_are(
    bad: dict[str, Any], first: bool
) -> None:
    """To the last bit, at every rung, whichever of them is the trunk's first."""
    good = {"weights": "inverse"}
    results = results_of(*((bad, good) if first else (good, bad)))
    mine = int(first)
    assert sorted(short(results)) == [
        ("diverged", 3, (1 - mine,)),
        ("score", 3, mine),
        ("score", 9, mine),
    ]
    scores = [score_of(r) for r in results if isinstance(r, RungResult)]
    configs = configs_of([good])
    alone = rungs_on(configs, rung_segments("cooldown", [3, 9], *phases_of(configs)))
    assert scores == [score_of(r) for r in alone]


def test_a_trunk_that_diverges_ends_all_variants() -> None:
    results = results_of({**GROWING, "weights": "inverse"}, GROWING)
    last = results[-1]
    assert isinstance(last, Diverged)
    assert (list(last.variants), last.following) == ([0, 1], None)


def test_the_end_comes_when_no_variant_is_left() -> None:
    results = results_of(IN_THE_COOLDOWN, ONLY_SCORED)
    assert [found[0] for found in short(results)] == ["diverged", "diverged"]
    last = results[-1]
    assert isinstance(last, Diverged) and last.following is None


@pytest.mark.parametrize("kind", ["cooldown", "compressed"])
@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_without_a_variant_the_others_train_the_same_epochs(kind: str, dropped: int) -> None:
    configs = configs_of(
        [{"schedule.cooldown": 0.6}, {"schedule.cooldown": 0.2}, {"schedule.cooldown": 0.4}]
    )
    left = without_variant(rung_segments(kind, [3, 9], *phases_of(configs)), dropped)
    kept = [config for i, config in enumerate(configs) if i != dropped]
    direct = rung_segments(kind, [3, 9], *phases_of(kept))

    def trained_epochs(segments: list[Segment]) -> list[object]:
        return [(s.rung, s.budget, s.fresh, s.epochs, s.branch) for s in segments]

    assert trained_epochs(left) == trained_epochs(direct)


# ---- helper networks and second stages ---------------------------------------------------------


def reason_of(config: TrainConfig) -> str:
    path = rung_segments("cooldown", [config.epochs], config.schedule.shared)
    *_, last = train_through_rungs([config], DATA, path)
    assert isinstance(last, Diverged)
    return last.reason


def test_a_seed_network_that_diverges_is_named() -> None:
    settings = {"generate": "m2m", "generate.schedule": "always", **CHEAP["m2m"], **GROWING}
    reason = reason_of(make_config(epochs=9).replace(**settings))
    assert reason.startswith("epoch 1: generate=m2m: epoch ")
    assert "of the seed network: the loss is not finite" in reason


def test_an_autoencoder_that_diverges_is_named() -> None:
    """Its images would be bytes made of NaN, on which the loss of the trial is finite."""
    spec = DeepSmote(4, 2, epochs=2, lr=1e30, neighbours=3, penalty="permuted")
    data = DeviceData(make_splits([40, 10]), CPU)
    with pytest.raises(DivergenceError, match="of the autoencoder: the loss is not"):
        deepsmote.generate(spec, data.resident("test"), data.labels_N, 2, seed=0)


def test_codes_that_are_not_finite_are_not_made_into_pixels() -> None:
    model = deepsmote.Autoencoder((1, 8, 8), 4, 2).eval()
    latents_NZ = torch.zeros(3, 4)
    latents_NZ[1, 2] = torch.nan
    with pytest.raises(DivergenceError, match="the autoencoder's images are not finite"):
        deepsmote.decode(model, latents_NZ)


@pytest.mark.parametrize("after", ["crt", "lws"])
def test_a_second_stage_that_diverges_is_named(after: str) -> None:
    config = make_config(epochs=4, after=after, after__share=1.0)
    state = trained(config)
    for weight in state.model.backbone.parameters():
        weight.data.fill_(1e30)
    with pytest.raises(DivergenceError, match=f"after={after}: epoch 1 of the second stage: the l"):
        apply_posthoc(state, DATA, 4)
    assert all(weight.requires_grad for weight in state.model.head.parameters())
