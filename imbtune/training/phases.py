"""Epochs of a run and segments of a trial: warm-up, trunk and cool-down as plain data.

A run of T epochs is a trunk followed by a cool-down; the trunk begins with the warm-up. An
:class:`Epoch` holds its position in these phases. Learning rate, deferred re-weighting (DRW) and
all other schedules are computed from that position alone.
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
    """The position of one epoch in a run.

    Attributes:
        index: number of epochs trained before this one, from 0.
        budget: length in epochs of the run that this epoch belongs to.
        full: length in epochs of the run whose trunk it is on or branched off from. Differs from
            `budget` only in the cool-down of a rung below the full budget.
        warmup: length of the warm-up in epochs; may be fractional.
        cooldown_index: epochs of the cool-down trained before this one; 0 in the trunk.
        cooldown_epochs: length of the cool-down in epochs; 0 in the trunk.
    """

    index: int
    budget: int
    full: int
    warmup: float
    cooldown_index: int = 0
    cooldown_epochs: int = 0

    @property
    def phase(self) -> str:
        """`cooldown` or `trunk`."""
        return "cooldown" if self.cooldown_epochs else "trunk"

    def warmup_done(self, steps: int, by_epoch: bool = False) -> Floats:
        """Share of the warm-up completed at the middle of each step, (S,), in [0, 1].

        Args:
            steps: S, the steps of the epoch.
            by_epoch: the share completed at the end of the epoch, for all of its steps.
        """
        if self.warmup == 0:
            return np.ones(steps)
        if by_epoch:
            return np.full(steps, min(1.0, (self.index + 1) / self.warmup))
        done_S: Floats = self.index + (np.arange(steps) + 0.5) / steps
        return np.minimum(done_S, self.warmup) / self.warmup

    def cooldown_done(self, steps: int) -> Floats:
        """Share of the cool-down completed at the middle of each step, (S,), in [0, 1).

        It is 0 in the trunk and above 0 in every step of the cool-down.
        """
        if not self.cooldown_epochs:
            return np.zeros(steps)
        done_S: Floats = (
            self.cooldown_index + (np.arange(steps) + 0.5) / steps
        ) / self.cooldown_epochs
        return done_S

    def progress(self, steps: int) -> Floats:
        """Share of the whole run completed at the middle of each step, (S,), in [0, 1).

        In the trunk it is the share of the `full` run. A cool-down raises it to 1 from its value
        at the end of the trunk, so that at every rung the scored model completes all schedules.
        """
        if not self.cooldown_epochs:
            done_S: Floats = (self.index + (np.arange(steps) + 0.5) / steps) / self.full
            return done_S
        at_branch = (self.index - self.cooldown_index) / self.full
        return at_branch + (1 - at_branch) * self.cooldown_done(steps)

    def random_key(self) -> tuple[int, ...]:
        """A key that, together with the run's seed, seeds every random draw of the epoch.

        A trunk epoch has the same key whatever the budget, so cool-down branches do not change
        the draws of the trunk.
        """
        return (self.index, self.budget if self.cooldown_epochs else 0)


def trunk(start: int, stop: int, budget: int, phases: Phases) -> list[Epoch]:
    """Trunk epochs `start` to `stop` - 1 of a run of `budget` epochs."""
    return [Epoch(i, budget, budget, phases.warmup * budget) for i in range(start, stop)]


def cooldown(start: int, budget: int, full: int, phases: Phases) -> list[Epoch]:
    """The cool-down that ends at epoch `budget`.

    Args:
        start: trunk epochs trained before it.
        budget: the epoch at which it ends; it has `budget` - `start` epochs.
        full: length in epochs of the run whose trunk it branches off from.
        phases: lengths of warm-up and cool-down as shares of a run.
    """
    length, warmup = budget - start, phases.warmup * full
    return [Epoch(start + i, budget, full, warmup, i, length) for i in range(length)]


def whole_run(budget: int, phases: Phases) -> list[Epoch]:
    """All epochs of a run of `budget` epochs: the trunk, then the cool-down."""
    trunk_epochs = phases.trunk_epochs(budget)
    return trunk(0, trunk_epochs, budget, phases) + cooldown(trunk_epochs, budget, budget, phases)


@dataclass(frozen=True)
class Segment:
    """What a trial trains for one rung: `epochs`, then `branch` on a copy, which is scored.

    Attributes:
        rung: index of the rung, from 0.
        budget: training length in epochs of the model that is scored.
        fresh: whether training starts again from newly initialised weights.
        epochs: epochs that the trial's state keeps.
        branch: epochs trained on a copy of the state; the copy is scored and discarded. Empty
            where the state itself is scored.
        variant: index of the cool-down settings that the branch uses, from 0.
        kind: one of :data:`RUNG_KINDS`.
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
        """Number of epochs that the segment trains, branch included."""
        return len(self.epochs) + len(self.branch)


RUNG_KINDS = ("cooldown", "compressed", "prefix")


def rung_segments(kind: str, budgets: list[int], *variants: Phases) -> list[Segment]:
    """The segments of a trial in training order, one for each rung and variant.

    Args:
        kind: `cooldown`: one trunk; at each rung a copy of the state is cooled down and scored.
            `compressed`: at each rung a whole run of that length, from new weights. `prefix`: one
            run, scored at each rung without a cool-down of its own.
        budgets: the rungs in epochs, increasing; the last is the full budget T.
        variants: the phases of each cool-down variant of the trial; all share one warm-up. Exactly
            one for `prefix` and for a trial without variants.

    Raises:
        ConfigError: `kind` is none of :data:`RUNG_KINDS`.
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
        runs = [
            _share_trunk(
                [_cooled_rung(i, budget, budget, variants, v, kind) for v in range(len(variants))]
            )
            for i, budget in enumerate(budgets)
        ]
        return [segment for run in runs for segment in run]
    return _share_trunk(
        [
            _cooled_rung(i, budget, budgets[-1], variants, v, kind)
            for i, budget in enumerate(budgets)
            for v in range(len(variants))
        ]
    )


def calibration_segments(budgets: list[int], phases: Phases) -> list[Segment]:
    """Segments that score each lower rung under every kind, and the full budget once.

    The kinds differ only below the full budget, and `prefix` and `cooldown` share one trunk, so
    together they cost little more than the `compressed` rungs alone.

    Args:
        budgets: the rungs in epochs, increasing; the last is the full budget T.
        phases: lengths of warm-up and cool-down as shares of a run.
    """
    last, trunk_epochs = budgets[-1], phases.trunk_epochs(budgets[-1])
    compressed = rung_segments("compressed", budgets, phases)[:-1]
    cooled = [_cooled_rung(i, b, last, (phases,), 0, "cooldown") for i, b in enumerate(budgets)]
    prefixes = []
    for i, budget in enumerate(budgets[:-1]):
        on_trunk = trunk(0, min(budget, trunk_epochs), last, phases)
        branch = cooldown(trunk_epochs, last, last, phases)[: max(0, budget - trunk_epochs)]
        prefixes.append(Segment(i, budget, True, tuple(on_trunk), tuple(branch), kind="prefix"))
    return [*compressed, *_share_trunk([*cooled, *prefixes])]


def remaining_segments(segments: list[Segment], reached: int, trained: int = 0) -> list[Segment]:
    """The segments that are still to be trained once the rungs up to `reached` have scores.

    Args:
        segments: all segments of the trial, in training order.
        reached: the highest budget that has been scored, in epochs.
        trained: trunk epochs that the saved state has been trained for; 0 to start from new
            weights.
    """
    remaining: list[Segment] = []
    epochs: tuple[Epoch, ...] = ()
    fresh = not trained
    for segment in segments:
        epochs = segment.epochs if segment.fresh else epochs + segment.epochs
        if segment.budget > reached:
            ahead = tuple(e for e in epochs if remaining or e.index >= trained)
            starts_fresh = segment.fresh if remaining else fresh
            remaining.append(replace(segment, fresh=starts_fresh, epochs=ahead))
            epochs = ()
    return remaining


def without_variant(segments: Sequence[Segment], variant: int) -> list[Segment]:
    """The segments that are left to train once a variant is no longer trained.

    The trunk epochs of its segments go to the next segment on the same trunk; where there is none,
    they are not trained.
    """
    left: list[Segment] = []
    epochs: tuple[Epoch, ...] = ()
    fresh = False
    for segment in segments:
        epochs = segment.epochs if segment.fresh else epochs + segment.epochs
        fresh = fresh or segment.fresh
        if segment.variant != variant:
            left.append(replace(segment, epochs=epochs, fresh=fresh))
            epochs, fresh = (), False
    return left


def _cooled_rung(
    rung: int, budget: int, full: int, variants: Sequence[Phases], variant: int, kind: str
) -> Segment:
    """One rung as a separate run: the trunk of a run of `full` epochs, cooled down to `budget`."""
    phases = variants[variant]
    trunk_epochs = phases.trunk_epochs(budget)
    on_trunk = trunk(0, trunk_epochs, full, phases)
    branch = cooldown(trunk_epochs, budget, full, phases)
    return Segment(rung, budget, True, tuple(on_trunk), tuple(branch), variant, kind)


def _share_trunk(separate: list[Segment]) -> list[Segment]:
    """Separate runs as segments of a single trunk, so that each trunk epoch is trained once."""
    segments: list[Segment] = []
    trained = 0
    for segment in sorted(separate, key=lambda s: len(s.epochs)):
        segments.append(replace(segment, fresh=not segments, epochs=segment.epochs[trained:]))
        trained = len(segment.epochs)
    return segments
