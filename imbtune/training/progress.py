"""Where an epoch stands in a run: pure bookkeeping of warm-up, trunk and cool-down.

A run of T epochs is a trunk (its first part warming up) and a cool-down. An :class:`Epoch` knows
its place in them; learning rate, DRW and late switches follow from that place alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import unknown
from imbtune.methods.schedules import Phases

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """One epoch's place.

    index: epochs trained before it on the way here. budget: the run it belongs to, in epochs.
    full: the run whose trunk it is on or left, in epochs: `budget`, but for a lower rung's
    cool-down. warmup: the length of the warm-up in epochs. cooled, cooling: epochs of the cool-down
    done before it, and the length of the cool-down; cooling is 0 in the trunk.
    """

    index: int
    budget: int
    full: int
    warmup: float
    cooled: int = 0
    cooling: int = 0

    @property
    def phase(self) -> str:
        return "cooldown" if self.cooling else "trunk"

    def warmup_done(self, steps: int) -> Floats:
        """Share of the warm-up done in the middle of each step, (S,), at most 1."""
        if self.warmup == 0:
            return np.ones(steps)
        done_S: Floats = self.index + (np.arange(steps) + 0.5) / steps
        return np.minimum(done_S, self.warmup) / self.warmup

    def cooldown_done(self, steps: int) -> Floats:
        """Share of the cool-down done in the middle of each step, (S,); 0 in the trunk alone."""
        if not self.cooling:
            return np.zeros(steps)
        done_S: Floats = (self.cooled + (np.arange(steps) + 0.5) / steps) / self.cooling
        return done_S

    def progress(self, steps: int) -> Floats:
        """Share of the whole run done in the middle of each step, (S,).

        On the trunk that is the share of the full run. A cool-down takes it to 1 from wherever it
        left the trunk, so that every rung's model has gone the whole way.
        """
        if not self.cooling:
            done_S: Floats = (self.index + (np.arange(steps) + 0.5) / steps) / self.full
            return done_S
        left = (self.index - self.cooled) / self.full
        return left + (1 - left) * self.cooldown_done(steps)

    def random_key(self) -> tuple[int, ...]:
        """What, with the run's seed, determines every random draw of the epoch.

        A trunk epoch has the same key in every budget, so a trunk that is interrupted by a
        cool-down goes on as if nothing had happened.
        """
        return (self.index, self.budget if self.cooling else 0)


def trunk(start: int, stop: int, budget: int, phases: Phases) -> list[Epoch]:
    """The trunk's epochs from `start` to `stop` of a run of `budget`."""
    return [Epoch(i, budget, budget, phases.warmup * budget) for i in range(start, stop)]


def cooldown(start: int, budget: int, full: int, phases: Phases) -> list[Epoch]:
    """The cool-down from epoch `start` of the trunk of a run of `full`, to the end of `budget`."""
    cooling, warmup = budget - start, phases.warmup * full
    return [Epoch(start + i, budget, full, warmup, i, cooling) for i in range(cooling)]


def whole_run(budget: int, phases: Phases) -> list[Epoch]:
    """All epochs of a run."""
    turn = phases.trunk_epochs(budget)
    return trunk(0, turn, budget, phases) + cooldown(turn, budget, budget, phases)


@dataclass(frozen=True)
class Stretch:
    """What a trial does for one rung: train on, cool a copy down, score it.

    rung: its place, from 0. budget: epochs of the finished model that it scores. fresh: start
    again from new weights. epochs: trained for good. branch: trained on a copy which is scored and
    dropped; empty where the state itself is scored.
    """

    rung: int
    budget: int
    fresh: bool
    epochs: tuple[Epoch, ...]
    branch: tuple[Epoch, ...] = ()


RUNG_KINDS = ("cooldown", "compressed", "prefix")


def stretches(kind: str, budgets: list[int], phases: Phases) -> list[Stretch]:
    """A trial's path through its rungs.

    Args:
        kind: `cooldown`: one trunk; at each rung a copy runs a cool-down. `compressed`: at each
            rung a whole run of that length from new weights. `prefix`: one run, scored as it
            stands.
        budgets: the rungs in epochs, rising; the last is the full budget T.
    """
    if kind not in RUNG_KINDS:
        raise unknown("rungs", kind, RUNG_KINDS)
    last = budgets[-1]
    if kind == "compressed":
        return [
            Stretch(i, budget, True, tuple(whole_run(budget, phases)))
            for i, budget in enumerate(budgets)
        ]
    path, done = [], 0
    for i, budget in enumerate(budgets):
        if kind == "prefix":
            path.append(Stretch(i, budget, i == 0, tuple(whole_run(last, phases)[done:budget])))
            done = budget
        else:
            turn = phases.trunk_epochs(budget)
            branch = cooldown(turn, budget, last, phases)
            path.append(
                Stretch(i, budget, i == 0, tuple(trunk(done, turn, last, phases)), tuple(branch))
            )
            done = turn
    return path
