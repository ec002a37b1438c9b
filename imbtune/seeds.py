"""Seeds derived from a study's seed, one for each trial and purpose."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a derived seed is used for. Recorded studies depend on these numbers: keep them."""

    TRAINING = 0
    SAMPLING = 1
    VARIANTS = 2
    NEVER_PRUNED = 3
    FINALS = 4
    CALIBRATION = 5
    FORECAST = 6
    TEMPERATURE = 7


def derived_seed(study_seed: int, number: int, purpose: Purpose) -> int:
    """A 32-bit seed for one purpose.

    Args:
        study_seed: the study's seed.
        number: the number of a trial, or another number that the seed depends on.
        purpose: what the seed is used for.
    """
    key = [study_seed, number] if purpose == Purpose.TRAINING else [study_seed, number, purpose]
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def trial_seed(study_seed: int, number: int) -> int:
    """The training seed of trial `number`."""
    return derived_seed(study_seed, number, Purpose.TRAINING)
