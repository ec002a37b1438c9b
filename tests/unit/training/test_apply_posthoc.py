"""What is done to a finished model: adjusted logits, second stages, and what is saved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from short_runs import CPU, DATA, everything, make_config, raw_logits, same, trained
from small_data import make_splits
from torch import Tensor, nn

from imbtune.config.train_config import TrainConfig
from imbtune.data.data_source import DataSource
from imbtune.data.load import load
from imbtune.data.splits import final_splits
from imbtune.final_training.retrain import train_final
from imbtune.inference.loading import load_model
from imbtune.progress.reporter import Reporter
from imbtune.training import loop
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import DeviceData
from imbtune.training.epoch_plan import EpochPlan, draw_epoch
from imbtune.training.loop import batches
from imbtune.training.state import HEAD, TrainState, seed_torch

COUNTS = [60, 20, 6, 1]
COSINE = ["ldam", "gcl"]


def held_images(data: DeviceData = DATA) -> Tensor:
    return data.normalise(next(data.held_out.in_order(1000)))


def predictions(confusion: Any) -> list[int]:
    """How often each class is taken."""
    return [int(n) for n in confusion.sum(0)]


# ---- adjustments -------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("loss", ["ce", "ldam", "logit_adjustment"])
def test_logit_adjustment_takes_the_log_prior_from_the_logits(loss: str, tau: float) -> None:
    state = trained(make_config(loss=loss, after="logit_adjustment", after__tau=tau))
    logits_BK, s = raw_logits(state, held_images()), 30 if loss == "ldam" else 1
    apply_posthoc(state, DATA, 5)
    literal = [
        [s * z - tau * math.log(n / 87) for z, n in zip(row, COUNTS, strict=True)]
        for row in logits_BK.tolist()
    ]
    assert (s * raw_logits(state, held_images())).numpy() == pytest.approx(
        np.array(literal), abs=1e-4
    )
    taken = np.bincount(np.argmax(literal, axis=1), minlength=4).tolist()
    assert predictions(state.evaluate(DATA)) == taken


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("loss", ["ce", "vs", *COSINE])
def test_tau_norm_divides_by_the_lengths_of_the_class_vectors(loss: str, tau: float) -> None:
    """A cosine head's have one length, so nothing changes there."""
    state = trained(make_config(loss=loss, after="tau_norm", after__tau=tau))
    logits_BK = raw_logits(state, held_images())
    weight_KD = state.model.head.weight.tolist()
    apply_posthoc(state, DATA, 5)
    length_K = [math.sqrt(sum(w * w for w in row)) for row in weight_KD]
    divisor_K = [1.0 if loss in COSINE else length**tau for length in length_K]
    literal = [[z / d for z, d in zip(row, divisor_K, strict=True)] for row in logits_BK.tolist()]
    assert raw_logits(state, held_images()).numpy() == pytest.approx(np.array(literal), abs=1e-4)


@pytest.mark.parametrize("after", ["none", "logit_adjustment", "tau_norm"])
def test_an_adjustment_trains_nothing(after: str) -> None:
    state = trained(make_config(after=after))
    weights = [weight.clone() for weight in state.model.parameters()]
    logits_BK, passes = raw_logits(state, held_images()), state.passes
    apply_posthoc(state, DATA, 5)
    assert same(list(state.model.parameters()), weights) and state.passes == passes
    assert torch.equal(raw_logits(state, held_images()), logits_BK) == (after == "none")


# ---- second stages -----------------------------------------------------------------------------


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


METHODS = {
    "mix": "mixup",
    "weights": "inverse",
    "generate": "none",
    "optimizer__weight_decay": 0.01,
}


@pytest.mark.parametrize("after", ["crt", "lws"])
@pytest.mark.parametrize("loss", ["ce", "vs", *COSINE])
def test_a_second_stage_is_its_steps_by_hand(after: str, loss: str, plans: list[EpochPlan]) -> None:
    """SGD on cross-entropy at the loss's scale, on features of the frozen backbone."""
    config = make_config(loss=loss, after=after, after__share=0.4, after__lr=0.05, **METHODS)
    state, by_hand = trained(config), trained(config)
    plans.clear()
    apply_posthoc(state, DATA, 5)
    assert len(plans) == 2
    model, s = by_hand.model, 30.0 if loss in COSINE else 1.0
    factor_K = torch.ones(4, requires_grad=after == "lws")
    if after == "crt":
        seed_torch(config.seed, HEAD)
        model.head.reset_parameters()
    learnt = list(model.head.parameters()) if after == "crt" else [factor_K]
    sgd = torch.optim.SGD(learnt, lr=1.0, momentum=0.9, weight_decay=2e-4)
    for plan in plans:
        assert plan.partner is None and plan.source is None
        for step, index_B in enumerate(plan.image.index_SB):
            with torch.no_grad():
                *_, shown = (b.images_BCHW for b, _ in zip(
                    batches(by_hand, DATA, plan), range(step + 1), strict=False
                ))  # fmt: skip
                features_BD = model.backbone.eval()(shown)
            logits_BK = s * factor_K * model.head(features_BD)
            sgd.param_groups[0]["lr"] = plan.lr_S[step].item()
            sgd.zero_grad()
            F.cross_entropy(logits_BK, DATA.labels_N[index_B]).backward()
            sgd.step()
    torch.testing.assert_close(state.model.scale_K, factor_K.detach(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(state.model.head.weight, model.head.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", ["ce", *COSINE])
@pytest.mark.parametrize("after", ["crt", "lws"])
def test_only_the_head_or_its_factors_move(after: str, loss: str) -> None:
    """Backbone, with batch norm's statistics, to the last bit; the modes are as before."""
    state = trained(make_config(loss=loss, after=after, mix="mixup", optimizer="sam"))
    before = {name: t.clone() for name, t in state.model.state_dict().items()}
    apply_posthoc(state, DATA, 20)
    moved = {n for n, t in state.model.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {"head.weight" if after == "crt" else "scale_K"}
    assert all(m.training for m in state.model.modules())
    assert all(w.requires_grad and w.grad is None for w in state.model.parameters())
    assert not state.model.scale_K.requires_grad and state.model.scale_K.grad is None


@pytest.mark.parametrize("loss", ["ce", "ldam"])
def test_a_retrained_head_starts_anew_from_the_seed(loss: str) -> None:
    """With a rate of 0 it stays where it starts, and LWS's factors at 1."""
    starts = []
    for seed in (0, 0, 1):
        state = trained(make_config(loss=loss, after="crt", after__lr=0.0, seed=seed, epochs=2))
        old = state.model.head.weight.clone()
        apply_posthoc(state, DATA, 5)
        starts.append(state.model.head.weight.clone())
        assert not torch.equal(starts[-1], old)
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    state = trained(make_config(loss=loss, after="lws", after__lr=0.0, epochs=2))
    apply_posthoc(state, DATA, 5)
    assert torch.equal(state.model.scale_K, torch.ones(4))


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_a_second_stage_is_a_share_of_its_model_and_an_epoch_at_least(
    share: float, plans: list[EpochPlan]
) -> None:
    state = TrainState(make_config(after="crt", after__share=share), DATA)
    for budget in (1, 20):
        plans.clear()
        apply_posthoc(state, DATA, budget)
        assert len(plans) == max(1, round(share * budget))


@pytest.mark.parametrize("after", ["logit_adjustment", "tau_norm", "crt", "lws"])
def test_what_was_finished_inside_kept_is_undone(after: str) -> None:
    config = make_config(after=after)
    state = trained(config)
    before, logits_BK = everything(state), raw_logits(state, held_images())
    with state.temporarily(state.methods):
        apply_posthoc(state, DATA, 5)
        assert not torch.equal(raw_logits(state, held_images()), logits_BK)
    assert same(everything(state), before)
    assert torch.equal(raw_logits(state, held_images()), logits_BK)


@pytest.mark.parametrize("after", ["crt", "lws"])
def test_a_torchvision_networks_dropout_and_statistics_rest(after: str) -> None:
    """mobilenet has dropout and hidden layers between the convolutions and the head."""
    data = DeviceData(make_splits([12, 4], size=32, channels=3), CPU)
    state = TrainState(
        make_config(model="mobilenet_v3_small", after=after, after__share=1.0, batch_size=8), data
    )
    backbone = [t.clone() for t in state.model.backbone.state_dict().values()]
    active = []
    for layer in state.model.backbone.modules():
        if isinstance(layer, nn.Dropout | nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda m, _: active.append(m.training))
    apply_posthoc(state, data, 2)
    assert active and not any(active)
    assert same(list(state.model.backbone.state_dict().values()), backbone)
    assert state.model.training


def test_a_balanced_head_raises_the_recall_of_the_tail() -> None:
    data = DeviceData(make_splits([60, 20, 6, 3], held=25), CPU)
    tail: dict[str, float] = {}
    for after in ("none", "logit_adjustment", "crt"):
        knobs = {"after__share": 1.0} if after == "crt" else {}
        config = make_config(
            after=after, epochs=10, batch_size=16, model__width=8, optimizer__lr=0.02, **knobs
        )
        state = trained(config, data)
        apply_posthoc(state, data, 10)
        confusion_KK = state.evaluate(data)
        tail[after] = (confusion_KK[2, 2] + confusion_KK[3, 3]) / 50
    assert all(tail[after] > tail["none"] + 0.1 for after in tail if after != "none"), tail


# ---- final training ----------------------------------------------------------------------------


FINAL = {
    "data": "digits",
    "data.ratio": 50.0,
    "model.width": 4,
    "epochs": 2,
    "batch_size": 64,
    "precision": "float32",
}


@pytest.mark.parametrize(
    ("loss", "after"),
    [("ce", "tau_norm"), ("ldam", "logit_adjustment"), ("gcl", "crt"), ("ce", "lws")],
)
def test_a_final_model_is_finished_saved_and_measured(
    loss: str, after: str, tmp_path: Path
) -> None:
    """The file gives the trained state's logits; every margin and class mean is theirs."""
    share = {"after.share": 0.5} if after in ("crt", "lws") else {}
    config = TrainConfig.from_settings(FINAL | {"loss": loss, "after": after, "seed": 3} | share)
    out = tmp_path / "final"
    (run,) = train_final(config, 1, out, None, {}, Reporter()).runs

    splits = final_splits(load("digits", config.data.knobs, DataSource(None)), config.data.shared)
    data = DeviceData(splits, CPU)
    state = trained(config, data)
    unfinished = raw_logits(state, held_images(data))
    apply_posthoc(state, data, 2)
    model = load_model(out).network
    with torch.no_grad():
        logits_BK = model(held_images(data))
        torch.testing.assert_close(logits_BK, raw_logits(state, held_images(data)))
    assert not torch.allclose(logits_BK, unfinished)

    table = pq.read_table(out / "margins.parquet").to_pylist()
    assert [row["split"] for row in table] == ["train"] * len(splits.train) + ["test"] * len(
        splits.held_out
    )
    results = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    s = 30 if loss in COSINE else 1
    for split, images, labels in (
        ("train", data.train, data.labels_N),
        ("test", data.held_out, data.held_out_labels_M),
    ):
        rows = [row for row in table if row["split"] == split]
        assert [row["example"] for row in rows] == list(range(len(labels)))
        assert [row["label"] for row in rows] == labels.tolist()
        with torch.no_grad():
            z_NK = s * model(data.normalise(next(images.in_order(10_000)))).double()
        p_NK = z_NK.softmax(1)
        for n, row in enumerate(rows):
            y, z, p = row["label"], z_NK[n].tolist(), p_NK[n].tolist()
            rivals = [k for k in range(10) if k != y]
            assert row["logit_margin"] == pytest.approx(z[y] - max(z[k] for k in rivals), abs=1e-3)
            margin = p[y] - max(p[k] for k in rivals)
            assert row["probability_margin"] == pytest.approx(margin, abs=1e-3)
            assert abs(row["logit_margin"]) < 1e-3 or (row["predicted"] == y) == (
                row["logit_margin"] > 0
            )
        for kind, column in (("margin", "logit_margin"), ("probability_margin",) * 2):
            means = [np.mean([r[column] for r in rows if r["label"] == k]) for k in range(10)]
            assert results["runs"][0]["margins"][f"{kind}_{split}"] == pytest.approx(means)
            assert run.margins[f"{kind}_{split}"] == pytest.approx(means)
    hits = [row["predicted"] == row["label"] for row in table if row["split"] == "test"]
    assert run.metrics["accuracy"] == pytest.approx(np.mean(hits))
