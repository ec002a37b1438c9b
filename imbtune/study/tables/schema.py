"""The columns of a study's tables.

- `trials/`: a row per trial, written when the trial has ended (:func:`trial_schema`).
- `epochs/`: a row per trial and epoch, written while the search runs (`EPOCHS`).
- `finals/`: a row per finalist and fresh seed (`FINALS`).
- `predictions/`: a row per final run and validation image (`PREDICTIONS`).
- `scores/`: a calibration's scores, a row per run and rung (`SCORES`).
- `classes/`: a row per class, with its name and its images (`CLASSES`).

docs/tables.md says what each column is, and a test compares it with this module. The metadata of
each file has the version of these columns, `VERSION`, under `imbtune_tables`.

The tables of a trained model are those of :mod:`imbtune.inference.example_tables`.

Columns in several tables:

- Metrics on the validation images, each in its own range (docs/metrics.md, `imbtune show metrics`):
  a column for each registered one. Null where it is undefined. Those that are objectives have the
  objectives' knobs, all others their defaults.
- `recall`: recall of each class in [0, 1]; NaN for a class without validation images.
- `margin_train`, `margin_val`: mean margin of each class on training and validation images: the
  logit of the label minus the largest other logit. `probability_margin_train`,
  `probability_margin_val`: the same with softmax probabilities, in [-1, 1]. Null below the full
  budget; NaN for a class without images (:mod:`imbtune.training.evaluation.margins`).
- `images`: image passes of the training; one pass is a forward and a backward pass of one image.
  Cool-downs, helper networks and second passes of the optimizer count.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from imbtune.metrics.metric import metrics
from imbtune.metrics.metric_registry import CONFUSION

RECALL = ("recall", pa.list_(pa.float64()))
# After an epoch: those of the confusion matrix
EPOCH_METRICS = [
    *((n, pa.float64()) for n in metrics.names() if metrics.traits(n).needs == CONFUSION),
    RECALL,
]
METRICS = [*((part.name, pa.float64()) for part in metrics), RECALL]  # of a scored model

MARGINS = [
    (name, pa.list_(pa.float64()))
    for name in (
        "margin_train",
        "margin_val",
        "probability_margin_train",
        "probability_margin_val",
    )
]

MACHINE = [
    ("node", pa.string()),
    ("host", pa.string()),
    ("device", pa.string()),
    ("gpu", pa.string()),
]
TIME = pa.timestamp("ms", tz="UTC")
CONFUSION = pa.list_(
    pa.struct([("label", pa.int32()), ("predicted", pa.int32()), ("count", pa.int32())])
)

# 1, which files do not name, and 2 are without the columns that docs/tables.md marks with 2 and 3
VERSION = "3"
METADATA = {"imbtune_tables": VERSION}

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def trial_schema(knobs: Mapping[str, type]) -> pa.Schema:
    """The columns of `trials`.

    The columns after `state` describe the highest rung that the trial reached; where it reached
    none, `score`, metrics, margins, `seconds` and `threads` are null, `budget` and `images` are 0,
    and the lists of rungs are empty.

    - `trial`: the trial's number, from 0.
    - `trunk`: the number of the trial whose trunk it shares; its own number unless the space has
      `late_variants`.
    - `preset`: the name of the preset; null for other trials.
    - `state`: COMPLETE (trained to the full budget), PRUNED (stopped at a rung), FAIL, or STOPPED
      (the search was interrupted).
    - `score`: the objective, higher is better, of a finished model of `budget` epochs.
    - `score_error`: its standard error, from the number of images of each class alone.
    - `budget`: epochs of the rung.
    - `rung_budgets`, `rung_scores`, `rung_score_errors`: the epochs, the score and its standard
      error of each rung reached, in rising order.
    - `rescued`: for a trial of the never-pruned sample, the epochs of the rung at which ASHA would
      have stopped it; null for other trials.
    - `cutoff`: ASHA's cut-off at the rung where it stopped the trial, or would have stopped it,
      which the score there was below; null for other trials. Of several trials on one trunk the
      best score is compared.
    - metrics, `recall`, margins, `images`: see the module. Trials on one trunk: the first one has
      the image passes and seconds of the trunk, the others only those of their cool-downs.
    - `seconds`: training time in seconds, over all processes that trained the trial.
    - `threads`: CPU threads of the training.
    - `started`: when a worker first began to train it (UTC); null if none did.
    - `ended`: when the trial ended (UTC).
    - `node`, `host`, `device`, `gpu`: where it was trained last: Ray's ID of the machine, the
      machine's name, `cpu` or the GPU's name, and the GPU's number on its machine (null on a CPU).
    - `error`: the exception's line of the traceback of a failed trial; null for other trials.
    - `confusion`: of a finished trial, how many validation images of class `label` it predicts as
      class `predicted`, for each pair that occurs; null for other trials.
    - a column for each setting, such as `mix.omega`: null where the setting does not act in the
      trial.

    Args:
        knobs: the type of every setting that a trial of the study may have, by name.
    """
    return pa.schema(
        [
            ("trial", pa.int32()),
            ("trunk", pa.int32()),
            ("preset", pa.string()),
            ("state", pa.string()),
            ("score", pa.float64()),
            ("score_error", pa.float64()),
            ("budget", pa.int32()),
            ("rung_budgets", pa.list_(pa.int32())),
            ("rung_scores", pa.list_(pa.float64())),
            ("rung_score_errors", pa.list_(pa.float64())),
            ("rescued", pa.int32()),
            ("cutoff", pa.float64()),
            *METRICS,
            *MARGINS,
            ("images", pa.int64()),
            ("seconds", pa.float64()),
            ("threads", pa.int32()),
            ("started", TIME),
            ("ended", TIME),
            *MACHINE,
            ("error", pa.string()),
            ("confusion", CONFUSION),
            *((name, _ARROW[kind]) for name, kind in knobs.items()),
        ],
        METADATA,
    )


EPOCHS = pa.schema(
    [
        ("trial", pa.int32()),  # its number; for an epoch of a shared trunk the first trial's
        ("epoch", pa.int32()),  # epochs trained up to the end of this one, from 1
        ("phase", pa.string()),  # trunk or cooldown
        ("budget", pa.int32()),  # epochs of the model that is trained, which is that of a rung
        ("lr", pa.float64()),  # learning rate of the epoch's last step
        ("loss", pa.float64()),  # mean training loss
        *EPOCH_METRICS,  # on the validation images, after the epoch
        ("time", TIME),  # when the epoch ended
    ],
    METADATA,
)

FINALS = pa.schema(
    [
        ("trial", pa.int32()),  # the finalist's number in `trials`
        ("seed", pa.int64()),  # the fresh seed that it was trained with
        ("score", pa.float64()),  # the objective at the full budget; higher is better
        ("score_error", pa.float64()),  # its standard error, from the number of images alone
        # the score without each of the groups into which the images are divided
        ("scores_without_groups", pa.list_(pa.float64())),
        *METRICS,
        *MARGINS,
        ("images", pa.int64()),  # image passes of this run
        ("seconds", pa.float64()),  # training time in seconds
        ("threads", pa.int32()),  # CPU threads of the training
        ("started", TIME),
        ("ended", TIME),
        *MACHINE,
        ("confusion", CONFUSION),
    ],
    METADATA,
)

PREDICTIONS = pa.schema(
    [
        ("trial", pa.int32()),  # the finalist's number in `trials`
        ("seed", pa.int64()),  # the fresh seed that it was trained with
        ("image", pa.string()),  # its file below the data folder, or its place in the data set
        ("label", pa.int32()),  # index of its class
        ("predicted", pa.int32()),  # index of the predicted class
        ("group", pa.int32()),  # of `scores_without_groups`; -1 for an image that is in none
        ("logits", pa.list_(pa.float32())),  # their softmax is the probability of each class
    ],
    METADATA,
)

SCORES = pa.schema(
    [
        ("trial", pa.int32()),  # number of the random configuration
        ("seed", pa.int32()),  # 0: run that is scored at every rung; 1: only at the full budget
        ("kind", pa.string()),  # of the rung: cooldown, compressed or prefix
        ("budget", pa.int32()),  # epochs of the model that was scored
        ("score", pa.float64()),  # the objective on the validation images; higher is better
    ],
    METADATA,
)

CLASSES = pa.schema(
    [
        ("class", pa.int32()),  # its index: its place in lists such as `recall`, from 0
        ("name", pa.string()),
        ("train", pa.int64()),  # training images
        ("held_out", pa.int64()),  # validation images; of a comparison, test images
    ],
    METADATA,
)
