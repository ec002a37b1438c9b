"""Learning curves that record.py has recorded: scores at rungs, and true scores.

Shapes: N configurations, R rungs, T epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbtune.methods.lr_schedules import Phases
from imbtune.training.phases import RUNG_KINDS, rung_segments
from imbtune.tuning.calibration.rank_statistics import recall_of_best, spearman

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """The configurations of one data set that have scores at every rung and for every seed.

    Attributes:
        name: of the data set, with `HALF` for its better half.
        budgets: the rungs in epochs, increasing to T.
        scores: by kind of rung, the scores of seed 0, which searches see, at each rung, (N, R).
        curve_NT: the score of seed 0 after every epoch of a full run.
        other_N: the mean full-budget score of the other seeds.
        truth_N: the mean full-budget score of all seeds.
        phases: lengths of warm-up and cool-down of each configuration.
    """

    name: str
    budgets: list[int]
    scores: dict[str, Floats]
    curve_NT: Floats
    other_N: Floats
    truth_N: Floats
    phases: list[Phases]

    @property
    def own_N(self) -> Floats:
        """The full-budget score of seed 0, which a search sees."""
        own_N: Floats = self.scores["cooldown"][:, -1]
        return own_N

    def costs(self, kind: str, rungs: list[int]) -> Floats:
        """Epochs that a trial trains from one rung to the next, (N, R).

        Includes the branches of cool-down rungs and the restarts of compressed ones.

        Args:
            kind: of the rungs.
            rungs: indices into `budgets`, increasing.
        """
        budgets = [self.budgets[r] for r in rungs]
        return np.array(
            [[s.cost for s in rung_segments(kind, budgets, p)] for p in self.phases], float
        )


HALF = ", better half"


def names(folder: Path) -> list[str]:
    """The populations in the folder: each data set, and the better half of each.

    About half of a space scores badly from the first epoch on, and a sampler soon avoids it. In the
    better half a search must tell good configurations from the best.
    """
    data = sorted(path.name.removesuffix("-rungs.parquet") for path in folder.glob("*-rungs.*"))
    return [name + part for name in data for part in ("", HALF)]


def read(folder: Path, name: str) -> Recorded:
    """Read a population. Configurations without a score for every rung and seed are left out."""
    name, half, _ = name.partition(HALF)
    rungs = pd.read_parquet(folder / f"{name}-rungs.parquet")
    curves = pd.read_parquet(folder / f"{name}-curves.parquet")
    searched = rungs["epochs"].notna()  # only the runs of seed 0 have settings
    own, others = rungs[searched], rungs[~searched]
    budgets = sorted(int(b) for b in own["budget"].unique())
    wide = own.pivot(index="config", columns=["kind", "budget"], values="score")
    other = others.pivot(index="config", columns="seed", values="score").dropna()
    kept = [n for n in wide.dropna().index if n in other.index]
    if half:
        truth = other.loc[kept].assign(own=wide["cooldown", budgets[-1]]).mean(axis=1)
        kept = sorted(truth.nlargest(len(kept) // 2).index)
    wide, other = wide.loc[kept], other.loc[kept]
    top = wide["cooldown", budgets[-1]].to_numpy()
    scores = {
        kind: np.column_stack([*(wide[kind, b] for b in budgets[:-1]), top]) for kind in RUNG_KINDS
    }
    shares = own.drop_duplicates("config").set_index("config").loc[kept]
    phases = [
        Phases(warmup=w, cooldown=c)
        for w, c in zip(shares["schedule.warmup"], shares["schedule.cooldown"], strict=True)
    ]
    truth_N = np.column_stack([top, other.to_numpy()]).mean(1)
    curve_NT = _full_run(curves, budgets[-1]).loc[kept].to_numpy()
    other_N = other.to_numpy().mean(1)
    return Recorded(name + half, budgets, scores, curve_NT, other_N, truth_N, phases)


def _full_run(curves: pd.DataFrame, full: int) -> pd.DataFrame:
    """The score of seed 0 after every epoch of a full run: its trunk, then its cool-down."""
    own = curves[(curves["seed"] == 0) & (curves["kind"] != "compressed")]
    last = (own["kind"] == "cooldown") & (own["budget"] == full)
    trunk = own[own["phase"] == "trunk"]
    run = pd.concat([trunk, own[last & (own["phase"] == "cooldown")]])
    return run.pivot(index="config", columns="epoch", values="score")


def previous_mean(score_NR: Floats) -> Floats:
    """Each score averaged with the rung before, (N, R); the first and the last unchanged."""
    mixed_NR = score_NR.copy()
    mixed_NR[:, 1:-1] = (score_NR[:, :-2] + score_NR[:, 1:-1]) / 2
    return mixed_NR


def calibration(recorded: Recorded, resamples: int = 1000) -> Iterator[dict[str, object]]:
    """How well each rung ranks the configurations; one row per kind and rung.

    `ρ` is Spearman's, with the full-budget scores of the other seeds. The ρ of the full budget
    itself is the noise floor, below 1. `of floor` is the ratio to it, `±` the standard deviation of
    that ratio over bootstrap resamples of the configurations.
    """
    other_N, own_N = recorded.other_N, recorded.own_N
    scores = recorded.scores
    scores = {
        **scores,
        **{f"{k}, mean with the rung before": previous_mean(scores[k]) for k in scores},
        "mean of cooldown and compressed": (scores["cooldown"] + scores["compressed"]) / 2,
        "mean of cooldown and prefix": (scores["cooldown"] + scores["prefix"]) / 2,
    }
    rng = np.random.default_rng(0)
    draws = rng.integers(len(own_N), size=(resamples, len(own_N)))
    floors = np.array([spearman(own_N[d], other_N[d]) for d in draws])
    floor, third = spearman(own_N, other_N), math.ceil(len(own_N) / 3)
    yield {"rung": "full budget", "epochs": recorded.budgets[-1], "ρ": floor, "of floor": 1.0,
           "±": 0.0, "top third": recall_of_best(own_N, other_N, third)}  # fmt: skip
    for kind, score_NR in scores.items():
        for budget, score_N in zip(recorded.budgets[:-1], score_NR.T, strict=False):
            rho = spearman(score_N, other_N)
            ratios = [spearman(score_N[d], other_N[d]) for d in draws] / floors
            yield {
                "rung": kind,
                "epochs": budget,
                "ρ": rho,
                "of floor": rho / floor,
                "±": float(ratios.std(ddof=1)),
                "top third": recall_of_best(score_N, other_N, third),
            }
