"""When a trial must leave a machine that is about to be taken away."""

from __future__ import annotations

import math

from imbtune.tuning.cluster.draining import MARGIN_SECONDS, TrialsToMove

NOW = 1_000_000.0
SOON = {"spot": NOW + 300}


def test_a_trial_waits_for_its_next_checkpoint() -> None:
    """It is written after a rung's report: the next report says that it is there."""
    moves = TrialsToMove()
    for _ in range(3):
        moves.reported("a", "spot", at_rung=False)
    assert moves.on(SOON, NOW) == set()
    moves.reported("a", "spot", at_rung=True)
    assert moves.on(SOON, NOW) == set()
    moves.reported("a", "spot", at_rung=False)
    assert moves.on(SOON, NOW) == {"a"}
    moves.reported("a", "spot", at_rung=False)
    assert moves.on(SOON, NOW) == set()


def test_a_trial_that_has_just_begun_leaves_at_once() -> None:
    """Ray Tune gives a worker that is there another trial, also on a draining machine."""
    moves = TrialsToMove()
    moves.reported("a", "spot", at_rung=False)
    assert moves.on(SOON, NOW) == {"a"}


def test_in_time_before_the_machine_goes_it_leaves_in_any_case() -> None:
    moves = TrialsToMove()
    for _ in range(2):
        moves.reported("a", "spot", at_rung=False)
    assert moves.on(SOON, NOW + 300 - MARGIN_SECONDS - 1) == set()
    assert moves.on(SOON, NOW + 300 - MARGIN_SECONDS) == {"a"}
    assert moves.on({"spot": math.inf}, NOW) == set()  # it has no deadline


def test_trials_of_other_machines_and_ended_ones_stay() -> None:
    moves = TrialsToMove()
    moves.reported("a", "stays", at_rung=False)
    moves.reported("b", "spot", at_rung=False)
    moves.ended("b")
    assert moves.on(SOON, NOW) == set()
    moves.reported("b", "spot", at_rung=False)  # again, after its worker was lost
    assert moves.on(SOON, NOW) == {"b"}
