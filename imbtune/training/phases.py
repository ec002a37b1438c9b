"""Where an epoch stands in a run: pure bookkeeping of warm-up, trunk and cool-down.

A run of T epochs is a trunk (its first part warming up) and a cool-down. An :class:`Epoch` knows
its place in them; learning rate, DRW and late switches follow from that place alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import unknown
from imbtune.methods.lr_schedules import Phases

Floats = NDArray[np.float64]


def steps_per_epoch(images: int, batch_size: int) -> tuple[int, int]:
    """The steps S of an epoch and its batch size B.

    Every batch is full, so S is `images / B` rounded, and at least 1: an epoch may skip or repeat
    part of a batch. B is `batch_size`, or `images` where that is smaller.
    """
    batch = min(batch_size, images)
    return max(1, round(images / batch)), batch


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
class Segment:
    """What a trial does for one rung: train on, cool a copy down, score it.

    rung: its place, from 0. budget: epochs of the finished model that it scores. fresh: start
    again from new weights. epochs: trained for good. branch: trained on a copy which is scored and
    dropped; empty where the state itself is scored. variant: which of the trial's late settings
    the branch has, from 0. kind: of the rung.
    """

    rung: int
    budget: int
    fresh: bool
    epochs: tuple[Epoch, ...]
    branch: tuple[Epoch, ...] = ()
    variant: int = 0
    kind: str = "cooldown"

    @property
    def cost(self) -> int:
        """Epochs that it trains."""
        return len(self.epochs) + len(self.branch)


RUNG_KINDS = ("cooldown", "compressed", "prefix")


def rung_segments(kind: str, budgets: list[int], *variants: Phases) -> list[Segment]:
    """A trial's path through its rungs, a segment for each rung and variant.

    Args:
        kind: `cooldown`: one trunk; at each rung a copy runs a cool-down. `compressed`: at each
            rung a whole run of that length from new weights. `prefix`: one run, scored as it
            stands.
        budgets: the rungs in epochs, rising; the last is the full budget T.
        variants: the phases of each of a trial's late settings, which share a warm-up; a single
            one for an ordinary trial, and for `prefix`.
    """
    if kind not in RUNG_KINDS:
        raise unknown("rungs", kind, RUNG_KINDS)
    if kind == "prefix":
        (phases,) = variants
        whole, starts = whole_run(budgets[-1], phases), [0, *budgets]
        return [
            Segment(i, budget, i == 0, tuple(whole[starts[i] : budget]), kind=kind)
            for i, budget in enumerate(budgets)
        ]
    if kind == "compressed":
        each = [
            _along([_cooled(i, budget, budget, variants, v, kind) for v in range(len(variants))])
            for i, budget in enumerate(budgets)
        ]
        return [segment for path in each for segment in path]
    return _along(
        [
            _cooled(i, budget, budgets[-1], variants, v, kind)
            for i, budget in enumerate(budgets)
            for v in range(len(variants))
        ]
    )


def calibration_segments(budgets: list[int], phases: Phases) -> list[Segment]:
    """One path that scores each lower rung under every kind, and the full budget once.

    The kinds differ only below the top, and prefix and cool-down share a trunk, so all of them
    cost little more than the compressed rungs alone.
    """
    last, turn = budgets[-1], phases.trunk_epochs(budgets[-1])
    compressed = rung_segments("compressed", budgets, phases)[:-1]
    cooled = [_cooled(i, b, last, (phases,), 0, "cooldown") for i, b in enumerate(budgets)]
    prefixes = []
    for i, budget in enumerate(budgets[:-1]):
        before, rest = trunk(0, min(budget, turn), last, phases), max(0, budget - turn)
        branch = cooldown(turn, last, last, phases)[:rest]
        prefixes.append(Segment(i, budget, True, tuple(before), tuple(branch), kind="prefix"))
    return [*compressed, *_along([*cooled, *prefixes])]


def remaining_segments(path: list[Segment], reached: int, trained: int = 0) -> list[Segment]:
    """What is left of a path when the scores up to the budget `reached` are known.

    Args:
        trained: trunk epochs behind the state that goes on; 0 to begin with new weights.
    """
    left: list[Segment] = []
    epochs: tuple[Epoch, ...] = ()
    fresh = not trained
    for segment in path:
        epochs = segment.epochs if segment.fresh else epochs + segment.epochs
        if segment.budget > reached:
            ahead = tuple(e for e in epochs if left or e.index >= trained)
            left.append(replace(segment, fresh=segment.fresh if left else fresh, epochs=ahead))
            epochs = ()
    return left


def _cooled(
    rung: int, budget: int, full: int, variants: Sequence[Phases], variant: int, kind: str
) -> Segment:
    """A rung by itself: the trunk of a run of `full` from its start, a cool-down to `budget`."""
    phases = variants[variant]
    turn = phases.trunk_epochs(budget)
    before = trunk(0, turn, full, phases)
    branch = cooldown(turn, budget, full, phases)
    return Segment(rung, budget, True, tuple(before), tuple(branch), variant, kind)


def _along(alone: list[Segment]) -> list[Segment]:
    """Rungs by themselves as stops along one trunk, which is trained once."""
    path: list[Segment] = []
    done = 0
    for segment in sorted(alone, key=lambda s: len(s.epochs)):
        path.append(replace(segment, fresh=not path, epochs=segment.epochs[done:]))
        done = len(segment.epochs)
    return path
