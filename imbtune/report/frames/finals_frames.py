"""What the finals say: each finalist over its seeds, and each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbtune.metrics.intervals import wilson
from imbtune.report.frames.trial_frame import kind_of, name_of
from imbtune.report.missing import no_finals, none_finished
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.study.evidence import Floats, mean_intervals
from imbtune.study.records import FinalRecord

MOST_POINTS = 100  # classes that are drawn one by one; more are drawn in groups of equal numbers
GROUPS = 40


def finals_frame(study: StudyData) -> pd.DataFrame:
    """A row per finalist and seed, best mean first.

    Columns: `trial`, `label` (its number and name), `kind`, `seed`, `score` of the seed; and of the
    finalist `mean`, its 95 % interval `low` and `high` (without a correction for the choice of the
    winner; null where a seed is missing, or there is one alone), and `search_score`, the score of
    one run that it was chosen by.

    Raises:
        NothingToDrawError: no run of the finals has ended.
    """
    if study.finals.empty:
        raise NothingToDrawError(no_finals(study))
    finals = [final_record(row) for row in records(study.finals)]
    intervals = mean_intervals(finals, study.score_bounds)
    rows = []
    for number, runs in study.finals.groupby("trial"):
        trial = records(study.trials[study.trials["trial"] == number])
        mean = float(runs["score"].mean())
        low, high = intervals.get(int(str(number)), (None, None))
        name = name_of(trial[0]) if trial else ""
        for run in records(runs):
            rows.append(
                {
                    "trial": int(str(number)),
                    "label": f"{number}  {name}",
                    "kind": kind_of(study, int(str(number)), trial[0]["preset"] if trial else None),
                    "seed": str(run["seed"]),
                    "score": float(run["score"]),
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "search_score": trial[0]["score"] if trial else None,
                }
            )
    frame = pd.DataFrame(rows)
    order = frame.sort_values(["mean", "trial"], ascending=[False, True], kind="stable")
    return order.reset_index(drop=True)


def recall_frame(study: StudyData) -> pd.DataFrame:
    """A row per class and model: the winner and the best preset, by the number of training images.

    Without finals, the models are the finished trial with the best score and the best preset of
    these. Columns: `kind`, `model` (its name), `class`, `images` (for training), `validation`
    (images, 0 where it is not recorded), `recall` (mean over the seeds), `low` and `high` (Wilson's
    95 % interval of a share among the validation images; null where there are none). With more than
    `MOST_POINTS` classes, a row per group of classes of similar size; `class` then names its size.

    Raises:
        NothingToDrawError: no finished model, or no class counts.
    """
    if not study.counts:
        raise NothingToDrawError("the study does not record how many images its classes have")
    rows = []
    order = np.argsort(-np.asarray(study.counts), kind="stable")
    grouped = len(order) > MOST_POINTS
    parts = np.array_split(order, GROUPS) if grouped else np.array_split(order, len(order))
    groups = [part.tolist() for part in parts]
    for kind, number in compared(study):
        recall_K = mean_recall(study, number)
        for group in groups:
            rows.append(
                {"kind": kind, "model": label_of(study, number), **_group(study, recall_K, group)}
            )
    return pd.DataFrame(rows)


def class_frame(study: StudyData) -> pd.DataFrame:
    """A row per class, largest first: `class`, `images`, `validation`, `winner`, `preset`,
    `change`.

    `winner` and `preset` are mean recalls of the two models of :func:`recall_frame`; `preset` and
    `change`, their difference, are null without a preset.

    Raises:
        NothingToDrawError: no finished model, or no class counts.
    """
    if not study.counts:
        raise NothingToDrawError("the study does not record how many images its classes have")
    models = compared(study)
    recalls = {
        ("preset" if i else "winner"): mean_recall(study, n) for i, (_, n) in enumerate(models)
    }
    winner = recalls["winner"]
    preset = recalls.get("preset", np.full(len(winner), np.nan))
    validation = study.validation_counts or [0] * len(winner)
    frame = pd.DataFrame(
        {
            "class": list(study.classes),
            "images": list(study.counts),
            "validation": list(validation),
            "winner": winner,
            "preset": preset,
            "change": winner - preset,
        }
    )
    return frame.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def compared(study: StudyData) -> Sequence[tuple[str, int]]:
    """The two models that the figures of classes compare: kind and trial number.

    As in :attr:`StudyData.compared`.

    Raises:
        NothingToDrawError: no trial has finished.
    """
    if not study.compared:
        raise NothingToDrawError(none_finished(study))
    return list(study.compared.items())


def label_of(study: StudyData, number: int) -> str:
    """`26 mamix + vs`: a trial's number and name."""
    rows = records(study.trials[study.trials["trial"] == number])
    return f"{number} {name_of(rows[0])}" if rows else str(number)


def mean_recall(study: StudyData, number: int) -> Floats:
    """The recall of each class (K,), mean over the finals' seeds; without finals of the trial's
    own run."""
    found = mean_of_lists(study, number, "recall")
    return np.full(len(study.counts), np.nan) if found is None else found


def mean_of_lists(study: StudyData, number: int, column: str) -> Floats | None:
    """The mean (K,) of a column of lists over a trial's finals, or its own; None without any."""
    for table in (study.finals, study.trials):
        if column not in table:
            continue
        lists = table.loc[table["trial"] == number, column].dropna()
        if len(lists):
            stacked: Floats = np.stack([np.asarray(each, dtype=float) for each in lists])
            mean: Floats = stacked.mean(0)
            return mean
    return None


def recall_interval(recall: float, images: int) -> tuple[float | None, float | None]:
    """Wilson's 95 % interval of a recall measured on so many images; None where there are none.

    A mean over several seeds is rounded to whole images.
    """
    if np.isnan(recall):
        return None, None
    return wilson(min(images, max(0, round(recall * images))), images)


def final_record(row: Mapping[str, Any]) -> FinalRecord:
    """A row of the table `finals`, of any version."""
    without = row.get("scores_without_groups")
    scores = None if without is None or np.ndim(without) == 0 else [float(s) for s in without]
    return FinalRecord(
        int(row["trial"]), int(row["seed"]), row["score"], row, scores_without_groups=scores
    )


def _group(study: StudyData, recall_K: Floats, group: Sequence[int]) -> dict[str, object]:
    """A class, or several of similar size as one."""
    counts, validation = np.asarray(study.counts), np.asarray(study.validation_counts or [0])
    picked = [int(k) for k in group if not np.isnan(recall_K[k])] or [int(k) for k in group]
    recall = float(np.mean(recall_K[picked]))
    images = int(validation[picked].sum()) if len(validation) == len(counts) else 0
    low, high = recall_interval(recall, images)
    smallest, largest = int(counts[picked].min()), int(counts[picked].max())
    size = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    name = study.classes[picked[0]] if len(group) == 1 else f"{len(group)} classes of {size} images"
    return {
        "class": name,
        "images": float(np.exp(np.log(np.maximum(counts[picked], 1)).mean())),
        "validation": images,
        "recall": recall,
        "low": low,
        "high": high,
    }
