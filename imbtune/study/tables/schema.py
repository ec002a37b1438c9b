"""The columns of a study's two tables.

`trials`: one row a trial, written when it has ended. `epochs`: one row a trial and epoch, while
the search runs. Knobs are typed columns under their own names (`mix.omega`); null where a trial
does not have the knob.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

METRICS = [
    (name, pa.float64())
    for name in (
        "balanced_accuracy",
        "accuracy",
        "macro_f1",
        "worst_class",
        "many",
        "medium",
        "few",
    )
] + [("recall", pa.list_(pa.float64()))]

MARGINS = [
    (name, pa.list_(pa.float64()))
    for name in (
        "margin_train",
        "margin_val",
        "probability_margin_train",
        "probability_margin_val",
    )
]

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def trial_schema(knobs: Mapping[str, type]) -> pa.Schema:
    """The columns of `trials`.

    trunk: the trial whose trunk it shares, as late variants do; its own number for others. state:
    COMPLETE (full budget), PRUNED (stopped at a rung), FAIL, or STOPPED (the search ended first).
    score: the objective at the highest rung reached, of a finished model of `budget` epochs.
    rescued: the budget at which ASHA would have stopped it, had it not been let run to see what
    stopping costs; null for others. margin_train, margin_val: mean margin of each class at the end
    of the full budget, in logits and as probabilities (imbtune.training.evaluation.margins).
    images: image passes, forward and backward, with cool-downs, helper networks and second passes.
    seconds: of training, at whatever load the machine had. Of late variants one has the trunk's
    images and seconds, the others those of their cool-downs alone. threads: of the CPU. node:
    Ray's ID of the machine.

    Args:
        knobs: the type of every setting that a trial of the study may have.
    """
    return pa.schema(
        [
            ("trial", pa.int32()),
            ("trunk", pa.int32()),
            ("preset", pa.string()),
            ("state", pa.string()),
            ("score", pa.float64()),
            ("budget", pa.int32()),
            ("rung_budgets", pa.list_(pa.int32())),
            ("rung_scores", pa.list_(pa.float64())),
            ("rescued", pa.int32()),
            *METRICS,
            *MARGINS,
            ("images", pa.int64()),
            ("seconds", pa.float64()),
            ("threads", pa.int32()),
            ("ended", pa.timestamp("ms", tz="UTC")),
            ("node", pa.string()),
            ("error", pa.string()),
            *((name, _ARROW[kind]) for name, kind in knobs.items()),
        ]
    )


EPOCHS = pa.schema(
    [
        ("trial", pa.int32()),
        ("epoch", pa.int32()),  # epochs trained before this one on the way here, plus one
        ("phase", pa.string()),  # trunk, or cooldown
        ("budget", pa.int32()),  # the run it belongs to, in epochs: which rung's cool-down
        ("lr", pa.float64()),  # at the epoch's last step
        ("loss", pa.float64()),
        *METRICS,
        ("time", pa.timestamp("ms", tz="UTC")),
    ]
)

FINALS = pa.schema(
    [
        ("trial", pa.int32()),  # of `trials`, trained again with a fresh
        ("seed", pa.int64()),
        ("score", pa.float64()),
        *METRICS,
        *MARGINS,
        ("images", pa.int64()),
    ]
)

SCORES = pa.schema(
    [
        ("trial", pa.int32()),  # of a calibration: a random configuration
        ("seed", pa.int32()),  # 0: scored at every rung; 1: at the full budget alone
        ("kind", pa.string()),
        ("budget", pa.int32()),
        ("score", pa.float64()),
    ]
)


def example_table(
    split: str, labels: Ints, predicted: Ints, logit: Floats, probability: Floats
) -> pa.Table:
    """The margins of every example of a split, a row each.

    example: its place in the split. label, predicted: class indices. margin, probability_margin:
    imbtune.training.evaluation.margins.
    """
    return pa.table(
        {
            "split": pa.array([split] * len(labels)).dictionary_encode(),
            "example": pa.array(range(len(labels)), pa.int32()),
            "label": pa.array(labels, pa.int32()),
            "predicted": pa.array(predicted, pa.int32()),
            "margin": pa.array(logit, pa.float64()),
            "probability_margin": pa.array(probability, pa.float64()),
        }
    )
