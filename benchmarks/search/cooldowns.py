"""Does a rung predict the full budget better with another cool-down?

    python benchmarks/search/cooldowns.py digits-lt --out FOLDER
    python benchmarks/search/cooldowns.py benchmarks/search/cifar10-16.yaml \\
        --data cifar10-16.npz --out FOLDER

The recorded configurations are trained again to their cool-down rungs at T/9 and T/3, and scored in
three ways. `last`: as in a search. `mean`: with the mean of the weights after every epoch of the
cool-down, and batch norm's statistics recomputed on the training images. `long`: after a cool-down
of 0.6 of the rung, where the configuration's own is shorter. Prints Spearman's ρ of each with the
recorded full-budget scores of the other seeds, and the 95 % interval of the difference from `last`.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from record import RUNGS, configurations, tensors
from recorded import HALF, read
from torch import Tensor, nn

from imbtune.config.train_config import TrainConfig
from imbtune.methods.lr_schedules import Phases
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion
from imbtune.training.apply_posthoc import apply_posthoc
from imbtune.training.device.device_data import BLOCK, DeviceData
from imbtune.training.loop import train_epoch
from imbtune.training.phases import rung_segments
from imbtune.training.state import TrainState
from imbtune.tuning.calibration.rank_statistics import spearman

Weights = dict[str, Tensor]
LONG = 0.6  # share of a rung; the longest cool-down in the search spaces
RECORDED = Path(__file__).parent / "recorded"


def run(space: str, folder: Path | None, count: int, number: int) -> list[dict[str, Any]]:
    """Train one configuration; its scores at each rung, as rows."""
    torch.set_num_threads(1)
    loaded, data = tensors(space, folder)
    config = configurations(space, count)[number]
    phases = config.schedule.shared
    long = replace(phases, cooldown=max(LONG, phases.cooldown))
    scored = [*along(config, data, phases), *along(config, data, long, "long")]
    return [
        {"config": number, "kind": kind, "budget": budget, "score": metrics[loaded.objective.name]}
        for kind, budget, metrics in scored
    ]


def along(
    config: TrainConfig, data: DeviceData, phases: Phases, last: str = "last"
) -> Iterator[tuple[str, int, dict[str, float | None]]]:
    """Train to both rungs; kind, budget and metrics with the last weights and with their mean."""
    state = TrainState(config, data)
    budgets = RUNGS.budgets(config.epochs)
    for segment in rung_segments("cooldown", budgets[1:], phases)[:2]:
        for epoch in segment.epochs:
            train_epoch(state, data, epoch)
        with state.temporarily(state.methods):
            weights_by_epoch = []
            for epoch in segment.branch:
                train_epoch(state, data, epoch)
                weights_by_epoch.append({k: v.clone() for k, v in state.model.state_dict().items()})
            for kind, weights in (
                (last, weights_by_epoch[-1]),
                ("mean", mean(weights_by_epoch)),
            ):
                if (kind, last) == ("mean", "long"):
                    continue
                state.model.load_state_dict(weights)
                if kind == "mean":
                    renew_statistics(state, data)
                apply_posthoc(state, data, segment.budget)
                yield (
                    kind,
                    segment.budget,
                    compute(Confusion.of(state.evaluate(data), data.counts_K)),
                )


def mean(weights: list[Weights]) -> Weights:
    """The mean of each floating-point tensor; the last value of others."""
    return {
        key: torch.stack([each[key] for each in weights]).mean(0)
        if last.is_floating_point()
        else last
        for key, last in weights[-1].items()
    }


def renew_statistics(state: TrainState, data: DeviceData) -> None:
    """Recompute batch norm's running statistics on all training images."""
    norms = [m for m in state.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    with torch.no_grad():
        for pixels in data.train.in_order(BLOCK):
            state.logits(data.normalise(pixels))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def compared(scores: pd.DataFrame, name: str) -> Iterator[str]:
    """One line per population and rung."""
    table = pd.read_parquet(RECORDED / f"{name}-rungs.parquet")
    other = table[table["epochs"].isna()].groupby("config")["score"].mean()
    better = read(RECORDED, name + HALF).other_N.min()
    for part, chosen in (("all", other), ("better half", other[other >= better])):
        for budget, at in scores[scores["config"].isin(chosen.index)].groupby("budget"):
            wide = at.pivot(index="config", columns="kind", values="score")
            yield f"{name}, {part}, {budget} epochs: {comparison(wide, chosen.loc[wide.index])}"


def comparison(scores: pd.DataFrame, truth: pd.Series[float]) -> str:
    """ρ and mean of each kind of score, and the interval of the difference from `last`."""
    truth_N, last_N = truth.to_numpy(), scores["last"].to_numpy()
    rng = np.random.default_rng(0)
    draws = rng.integers(len(truth_N), size=(2000, len(truth_N)))
    parts = [f"last {spearman(last_N, truth_N):.3f} (scores {last_N.mean():.4f})"]
    for kind in ("mean", "long"):
        score_N = scores[kind].to_numpy()
        gains = [spearman(score_N[d], truth_N[d]) - spearman(last_N[d], truth_N[d]) for d in draws]
        low, high = np.nanquantile(gains, [0.025, 0.975])
        rho = spearman(score_N, truth_N)
        parts.append(f"{kind} {rho:.3f} [{low:+.3f}, {high:+.3f}] (scores {score_N.mean():.4f})")
    return f"{len(truth_N)} configurations, ρ " + ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    name = Path(options.space).stem
    numbers = sorted(pd.read_parquet(RECORDED / f"{name}-rungs.parquet")["config"].unique())
    one = partial(run, options.space, options.data, len(numbers))
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        rows = [row for found in pool.imap(one, map(int, numbers)) for row in found]
    scores = pd.DataFrame(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(options.out / f"{name}-cooldowns.parquet")
    print(*compared(scores, name), sep="\n")


if __name__ == "__main__":
    main()
