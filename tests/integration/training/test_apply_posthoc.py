"""Second stages of a hundred epochs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from short_runs import DATA, make_config, plan_of, trained

from imbtune.training import loop
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.phases import Epoch


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[EpochPlan]:
    """The plans of the epochs trained in the test, as they are drawn."""
    seen: list[EpochPlan] = []
    draw = draw_epoch

    def recorded(*args: Any, **options: Any) -> EpochPlan:
        seen.append(draw(*args, **options))
        return seen[-1]

    monkeypatch.setattr(loop, "draw_epoch", recorded)
    return seen


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "adamw"])
@pytest.mark.parametrize("after", ["crt", "lws"])
def test_second_stages_are_balanced_unmixed_and_counted(
    after: str, optimizer: str, plans: list[EpochPlan]
) -> None:
    config = make_config(
        after=after, after__share=0.5, after__lr=0.2, optimizer=optimizer, mix="cutmix",
        weights="inverse", sampler="instance", epochs=1,
    )  # fmt: skip
    state = trained(config)
    passes, weights = state.passes, [w.clone() for w in state.optimizer.param_groups[0]["params"]]
    plans.clear()
    apply_posthoc(state, DATA, 200)
    assert len(plans) == 100 and state.passes == passes + 100 * 90
    drawn = torch.cat([plan.image.index_SB.flatten() for plan in plans])
    share_K = torch.bincount(DATA.labels_N[drawn], minlength=4) / len(drawn)
    assert share_K.tolist() == pytest.approx([0.25] * 4, abs=0.02)
    rates = torch.cat([plan.lr_S for plan in plans]).tolist()
    cosine = [0.1 * (1 + math.cos(math.pi * (i + 0.5) / 300)) for i in range(300)]
    assert rates == pytest.approx(cosine, abs=1e-6)
    assert all(bool((plan.weights_SK == 1).all()) and plan.partner is None for plan in plans)
    # the run's own optimiser is as it was
    assert len(state.optimizer.param_groups[0]["params"]) == len(weights)
    assert state.config is config and state.methods.mix is not None
    assert state.optimizer.param_groups[0]["lr"].item() == pytest.approx(
        plan_of(state, Epoch(0, 1, 1, 0.025, 0, 1)).lr_S[-1].item()
    )
