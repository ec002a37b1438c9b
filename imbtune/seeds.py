"""Seeds that follow from a study's seed: one for each trial and purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a derived seed is for. The numbers are part of every recorded study: never renumber."""

    TRAINING = 0
    SAMPLING = 1
    VARIANTS = 2
    NEVER_PRUNED = 3
    FINALS = 4
    CALIBRATION = 5
    FORECAST = 6


def derived_seed(study_seed: int, number: int, purpose: Purpose) -> int:
    """A 32-bit seed for one purpose: a function of the study's seed and a number."""
    key = [study_seed, number] if purpose == Purpose.TRAINING else [study_seed, number, purpose]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def trial_seed(study_seed: int, number: int) -> int:
    """The training seed of trial `number`."""
    return derived_seed(study_seed, number, Purpose.TRAINING)
