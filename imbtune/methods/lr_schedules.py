"""The learning rate as a pure function of progress.

A run is warm-up, trunk (constant rate), cool-down (the rate decays). Two numbers say where a step
stands: the share of the warm-up done, and the share of the cool-down done, which is 0 until the
trunk ends and above 0 from the cool-down's first step on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from imbtune.registry import Knob, Registry

DRW = "Cao et al. 2019, arXiv 1906.07413"
WSD = "Hägele et al. 2024, arXiv 2405.18392"


@dataclass(frozen=True)
class Phases:
    """The lengths of the phases, as shares of the whole run."""

    warmup: Annotated[float, Knob("share of the run with a rising rate", 0, 0.5)] = 0.025
    cooldown: Annotated[
        float,
        Knob("share of the run with a decaying rate", 0.02, 1, search=(0.1, 0.5), source=DRW),
    ] = 0.2

    def trunk_epochs(self, budget: int) -> int:
        """Whole epochs of warm-up and trunk in a run of `budget`; the rest, at least 1, cools."""
        return min(round(budget * (1 - self.cooldown)), budget - 1)


schedules = Registry("schedule", "how the learning rate decays in the cool-down", Phases)


@schedules.register("step", help="two drops, at the start and the middle", source=DRW)
def step(
    cooldown: float,
    *,
    drop: Annotated[
        float, Knob("factor of each drop", 1e-4, 1, search=(0.01, 0.3), scale="log")
    ] = 0.01,
) -> float:
    """×drop from the start of the cool-down, ×drop² from its middle (epochs 160, 180 of 200)."""
    return 1.0 if cooldown <= 0 else drop if cooldown < 0.5 else drop**2


@schedules.register("linear", help="a straight line to zero", source=WSD)
def linear(cooldown: float) -> float:
    """1 - p."""
    return 1 - cooldown


@schedules.register("cosine", help="half a cosine to zero", source="arXiv 1608.03983")
def cosine(cooldown: float) -> float:
    """(1 + cos πp)/2."""
    return (1 + math.cos(math.pi * cooldown)) / 2
