"""What happened in the search: learning curves, and the best configurations as lines."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imbtune.report.frames.trial_frame import kind_of, knob_values, name_of, trial_frame
from imbtune.report.missing import none_finished
from imbtune.report.study_data import (
    CHOICES,
    COMPLEMENT,
    LOG,
    NothingToDrawError,
    StudyData,
    records,
)
from imbtune.report.wording import number

DRAWN = 20  # best trials whose curves are drawn one by one
LINES = 200  # best trials in the parallel coordinates
ABSENT = -0.16  # where a knob that does not act is drawn on its axis from 0 to 1


def curve_frame(study: StudyData) -> pd.DataFrame:
    """A row per trial and epoch of the finalists, the presets and the best 20 trials.

    Columns: `trial`, `name`, `kind`, `epoch`, `score` (on the validation images after the epoch).

    Raises:
        NothingToDrawError: no epochs are recorded.
    """
    curves, metric = study.curves, study.objective_column
    if curves.empty:
        yet = "" if study.has_ended else " yet"
        raise NothingToDrawError(f"no epoch has been recorded{yet}")
    if metric not in curves:
        raise NothingToDrawError(f"{metric} is computed at rungs, not after each epoch")
    trials = study.trials
    ranked = study.finished.sort_values(["score", "trial"], ascending=[False, True])["trial"]
    shown = {*ranked[:DRAWN], *trials.loc[trials["finalist"] | trials["preset"].notna(), "trial"]}
    shown = shown or set(curves["trial"].unique()[:DRAWN])
    rows = curves[curves["trial"].isin(shown)]
    known = {row["trial"]: row for row in records(trials)}
    names = {n: name_of(known[n]) if n in known else f"trial {n}" for n in shown}
    kinds = {n: kind_of(study, n, known[n]["preset"] if n in known else None) for n in shown}
    return pd.DataFrame(
        {
            "trial": rows["trial"].astype(int),
            "name": rows["trial"].map(names),
            "kind": rows["trial"].map(kinds),
            "epoch": rows["epoch"].astype(int),
            "score": rows[metric].astype(float),
        }
    ).reset_index(drop=True)


def curve_band_frame(study: StudyData) -> pd.DataFrame:
    """A row per epoch over all trials: `epoch`, `trials`, and the quantiles `q10`, `q50`, `q90`.

    Trials that were stopped are in it up to the epoch at which they were stopped.
    """
    curves, metric = study.curves, study.objective_column
    if curves.empty or metric not in curves:
        return pd.DataFrame(columns=["epoch", "trials", "q10", "q50", "q90"])
    groups = curves.groupby(curves["epoch"].astype(int))[metric]
    found = {"trials": groups.size()}
    found |= {f"q{percent}": groups.quantile(percent / 100) for percent in (10, 50, 90)}
    return pd.DataFrame(found).reset_index(names="epoch")


def part_frame(study: StudyData) -> pd.DataFrame:
    """A row per value of each searched choice: `knob`, `column`, `value`, `n`, `median`, `best`.

    They count the finished trials in which the knob acts and has the value; `median` and `best` are
    of their scores. The values of a knob are ordered by their median, highest first.

    Raises:
        NothingToDrawError: no trial has finished, or the space searches no choice.
    """
    frame, knobs = trial_frame(study), [k for k in study.knobs if k.scale == CHOICES]
    finished = frame[frame["full"].notna()]
    if finished.empty:
        raise NothingToDrawError(none_finished(study))
    parts = []
    for knob in knobs:
        groups = finished.groupby(finished[knob.column].rename("value"))["full"]
        found = groups.agg(n="size", median="median", best="max").reset_index()
        parts.append(found.assign(knob=knob.name, column=knob.column))
    if not parts or not sum(map(len, parts)):
        raise NothingToDrawError("the search space has no knob with choices")
    rows = [part.sort_values(["median", "value"], ascending=[False, True]) for part in parts]
    columns = ["knob", "column", "value", "n", "median", "best"]
    return pd.concat(rows, ignore_index=True)[columns]


def parallel_frame(study: StudyData) -> pd.DataFrame:
    """A row per trial and axis of the best 200 finished trials.

    Columns: `trial`, `name`, `kind`, `axis`, `order`, `position` in [0, 1] (`ABSENT` where the knob
    does not act), `value` in words (`choice`: it is one of a few), and `score`, which is
    the last axis. Knobs that act in none of them are left out.

    Raises:
        NothingToDrawError: no trial has finished, or the space searches nothing.
    """
    frame = trial_frame(study)
    finished = frame[frame["full"].notna()]
    if finished.empty:
        raise NothingToDrawError(none_finished(study))
    if not study.knobs:
        raise NothingToDrawError("the search space has no knob")
    best = finished.sort_values(["full", "trial"], ascending=[False, True])[:LINES]
    kept = study.trials.loc[best.index]
    parts: list[pd.DataFrame] = []
    for knob in study.knobs:
        if kept[knob.name].isna().all():
            continue
        values = knob_values(kept, knob)
        words = kept[knob.name]
        parts.append(
            pd.DataFrame(
                {
                    "axis": knob.name,
                    "order": len(parts),
                    "position": _positions(values, knob.scale).fillna(ABSENT),
                    "value": [_word(value) for value in words],
                    "choice": (knob.scale == CHOICES) & values.notna(),
                },
                index=best.index,
            )
        )
    low, high = best["full"].min(), best["full"].max()
    position = (best["full"] - low) / (high - low) if high > low else best["full"] * 0 + 0.5
    words = best["full"].map(number)
    last = {"axis": "score", "order": len(parts), "value": words, "choice": False}
    parts.append(pd.DataFrame({"position": position, **last}, index=best.index))
    shared = best[["trial", "name", "kind"]].assign(score=best["full"])
    return pd.concat([part.join(shared) for part in parts], ignore_index=True)


def _positions(values: pd.Series, scale: str) -> pd.Series:
    """Values as positions in [0, 1]; NaN for null."""
    if scale == CHOICES or values.dtype == object:
        levels = sorted(values.dropna().unique())
        step = max(1, len(levels) - 1)
        return values.map({level: i / step for i, level in enumerate(levels)}).astype(float)
    numbers = values.astype(float)
    if scale in (LOG, COMPLEMENT):
        numbers = numbers.map(np.log)
    if scale == COMPLEMENT:
        numbers = -numbers  # rises with the knob
    low, high = numbers.min(), numbers.max()
    return (numbers - low) / (high - low) if high > low else numbers * 0 + 0.5


def _word(value: object) -> str:
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return "does not act"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
