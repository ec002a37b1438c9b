"""The columns of a study's two tables.

`trials`: one row a trial, written when it has ended. `epochs`: one row a trial and epoch, while
the search runs. Knobs are typed columns under their own names (`mix.omega`); null where a trial
does not have the knob.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

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

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def trial_schema(knobs: Mapping[str, type]) -> pa.Schema:
    """The columns of `trials`.

    state: COMPLETE (full budget), PRUNED (stopped at a rung), FAIL, or STOPPED (the search ended
    first). score: the objective at the highest rung reached, of a finished model of `budget`
    epochs. images: image passes trained, cool-downs included. node: Ray's ID of the machine.

    Args:
        knobs: the type of every setting that a trial of the study may have.
    """
    return pa.schema(
        [
            ("trial", pa.int32()),
            ("preset", pa.string()),
            ("state", pa.string()),
            ("score", pa.float64()),
            ("budget", pa.int32()),
            ("rung_budgets", pa.list_(pa.int32())),
            ("rung_scores", pa.list_(pa.float64())),
            *METRICS,
            ("images", pa.int64()),
            ("seconds", pa.float64()),
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
