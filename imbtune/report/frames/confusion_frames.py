"""What the models confuse, and the margins of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from imbtune.metrics.intervals import wilson
from imbtune.report.frames.finals_frames import (
    class_frame,
    compared,
    label_of,
    mean_of_lists,
    recall_interval,
)
from imbtune.report.study_data import NothingToDrawError, StudyData, records

MOST_IN_MATRIX = 30  # classes of a matrix that can be read
Interval = tuple[float | None, float | None]
PAIRS = 30  # most confused pairs that are listed instead


def confusion_frame(study: StudyData) -> pd.DataFrame:
    """A row per class and predicted class of the winner: `class`, `predicted`, `share`, `count`.

    Classes are ordered by their training images, largest first (`row` and `column` number them).
    `share` is the share of the class's validation images, over all seeds; pairs that never occurred
    are left out. `wrong` is the share again, null on the diagonal. With more than `MOST_IN_MATRIX`
    classes only the `PAIRS` most confused pairs: those of which Wilson's interval of the share
    begins highest, since all of one image say less than half of fifty.

    Raises:
        NothingToDrawError: the study does not record what its models predicted.
    """
    _, winner = compared(study)[0]
    counts, runs = _confusion(study, winner)
    size = max(max(pair) for pair in counts) + 1
    classes = [*study.classes, *(str(k) for k in range(len(study.classes), size))]
    order = np.argsort(-np.asarray(study.counts or [0] * size), kind="stable").tolist()
    place = {k: i for i, k in enumerate(order)}
    totals: dict[int, int] = {}
    for (label, _), count in counts.items():
        totals[label] = totals.get(label, 0) + count
    rows = [
        {
            "class": classes[label],
            "predicted": classes[predicted],
            "row": place.get(label, label),
            "column": place.get(predicted, predicted),
            "share": count / totals[label],
            "wrong": count / totals[label] if label != predicted else None,
            "count": count,
        }
        for (label, predicted), count in counts.items()
    ]
    frame = pd.DataFrame(rows).sort_values(["row", "column"], ignore_index=True)
    if size <= MOST_IN_MATRIX:
        return frame
    wrong = frame[frame["wrong"].notna()]
    images = (wrong["count"] / wrong["share"]).round() / runs
    low = [wilson(s * n, n)[0] or 0.0 for s, n in zip(wrong["share"], images, strict=True)]
    ranked = wrong.assign(low=low).sort_values("low", ascending=False, kind="stable")
    return ranked[:PAIRS].drop(columns="low").reset_index(drop=True)


def _confusion(study: StudyData, number: int) -> tuple[Mapping[tuple[int, int], int], int]:
    """How often a class was predicted as another over the finals' seeds, and their number."""
    for table in (study.finals, study.trials):
        if "confusion" not in table:
            continue
        lists = table.loc[table["trial"] == number, "confusion"].dropna()
        found: dict[tuple[int, int], int] = {}
        for cell in _cells(lists):
            pair = int(cell["label"]), int(cell["predicted"])
            found[pair] = found.get(pair, 0) + int(cell["count"])
        if found:
            return found, len(lists)
    raise NothingToDrawError(
        "the study does not record what its models predicted; studies of this version do"
    )


def _cells(lists: Iterable[Iterable[Mapping[str, int]]]) -> Iterable[Mapping[str, int]]:
    for cells in lists:
        yield from cells


def margin_frame(study: StudyData) -> pd.DataFrame:
    """A row per class and split of the winner: `class`, `images`, `split`, `margin`.

    The margin is the probability of the label minus the largest other one, in [-1, 1], averaged
    over the images of the class and the seeds.

    Raises:
        NothingToDrawError: the study does not record the margins.
    """
    _, winner = compared(study)[0]
    rows = []
    for split, column in (("training", "margin_train"), ("validation", "margin_val")):
        margins = mean_of_lists(study, winner, f"probability_{column}")
        if margins is None or not study.counts:
            raise NothingToDrawError("the study does not record the margins of its classes")
        for name, images, margin in zip(study.classes, study.counts, margins, strict=False):
            rows.append({"class": name, "images": images, "split": split, "margin": float(margin)})
    frame = pd.DataFrame(rows)
    return frame.sort_values(["images", "class"], ascending=[False, True], ignore_index=True)


def _differ(one: Interval, other: Interval) -> bool:
    """Whether two intervals do not overlap; False where one is unknown."""
    (low, high), (other_low, other_high) = one, other
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low > other_high or other_low > high


def slope_frame(study: StudyData) -> pd.DataFrame:
    """A row per class and model: `class`, `images`, `model`, `side`, `recall`, `change`,
    `differs`.

    `model` is its label; `side` is 0 for the best preset and 1 for the winner; `change` is the
    class's change from the preset to the winner, which is on both of its rows. `differs` is whether
    Wilson's 95 % intervals of the two recalls do not overlap, for so many validation images.

    Raises:
        NothingToDrawError: there is no preset beside the winner.
    """
    models = compared(study)
    if len(models) < 2:
        raise NothingToDrawError(
            "no preset can be compared with the winner: none finished, or the winner is one"
        )
    classes = class_frame(study)
    classes["differs"] = [
        _differ(
            recall_interval(row["winner"], row["validation"]),
            recall_interval(row["preset"], row["validation"]),
        )
        for row in records(classes)
    ]
    labels = {kind: label_of(study, number) for kind, number in models}
    sides = [("best preset", "preset", 0), ("winner", "winner", 1)]
    parts = [
        classes[["class", "images", "change", "differs"]].assign(
            model=labels[kind], kind=kind, side=side, recall=classes[column]
        )
        for kind, column, side in sides
    ]
    return pd.concat(parts, ignore_index=True)
