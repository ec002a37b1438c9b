"""Learning-rate schedules: the factor of the peak learning rate in the cool-down.

A run consists of the trunk, whose first epochs are the warm-up, and the cool-down. The rate rises
in the warm-up and is constant until the trunk ends. A schedule is a function `cooldown -> factor`
of the share of the cool-down that is done: 0 in the trunk, above 0 from the cool-down's first step
on, at most 1. The factor is at least 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from imbtune.registry import Knob, Registry

DRW = "Cao et al. 2019, arXiv 1906.07413"
WSD = "Hägele et al. 2024, arXiv 2405.18392"


@dataclass(frozen=True)
class Phases:
    """The lengths of warm-up and cool-down, as shares of the run."""

    warmup: Annotated[float, Knob("share of the run with a rising rate", 0, 0.5)] = 0.025
    warmup_by: Annotated[
        str,
        Knob(
            "in the warm-up the rate rises with every step, or with every epoch, as in LDAM-DRW's "
            "code and its successors (1/5, 2/5, … of the peak)",
            choices=("step", "epoch"),
            source=DRW,
        ),
    ] = "step"
    cooldown: Annotated[
        float,
        Knob(
            "share of the run with a decaying rate",
            0.02,
            1,
            search=(0.1, 0.5),
            source=DRW,
            cooldown_only=True,
        ),
    ] = 0.2

    def trunk_epochs(self, budget: int) -> int:
        """The epochs of the trunk, warm-up included, in a run of `budget` epochs.

        At least one epoch is left for the cool-down.
        """
        return min(round(budget * (1 - self.cooldown)), budget - 1)


schedules = Registry(
    "schedule", "how the learning rate decays in the cool-down", Phases, cooldown_only=True
)


_SHARE = r"(0|0?\.\d+|\d+/[1-9]\d*)"  # such as 0, 0.5 or 2/3


@schedules.register("step", help="drops, by default at the start and the middle", source=DRW)
def step(
    cooldown: float,
    *,
    drop: Annotated[
        float, Knob("factor of each drop", 1e-4, 1, search=(0.01, 0.3), scale="log")
    ] = 0.01,
    milestones: Annotated[
        str,
        Knob(
            "shares of the cool-down at which the rate drops, such as '0 0.5' or '0 2/3'",
            pattern=rf"{_SHARE}( {_SHARE})*",
        ),
    ] = "0 0.5",
) -> float:
    """`drop`^d, where d is the number of `milestones` that the cool-down has passed.

    With the defaults the rate drops at epochs 160 and 180 of 200, as in the paper. The reference
    package's 300 epochs, with drops by 0.1 after 150 and 250, are a cool-down of 0.5 and
    milestones of '0 2/3'.
    """
    if cooldown <= 0:
        return 1.0
    return drop ** sum(cooldown >= Fraction(share) for share in milestones.split())


@schedules.register("linear", help="a straight line to zero", source=WSD)
def linear(cooldown: float) -> float:
    """1 - p, where p is `cooldown`."""
    return 1 - cooldown


@schedules.register("cosine", help="half a cosine to zero", source="arXiv 1608.03983")
def cosine(cooldown: float) -> float:
    """(1 + cos πp)/2, where p is `cooldown`."""
    return (1 + math.cos(math.pi * cooldown)) / 2
