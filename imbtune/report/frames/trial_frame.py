"""A row per trial: the frame that most figures, the table and the filters share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from imbtune.config.defaults import DEFAULTS
from imbtune.report.missing import none_finished
from imbtune.report.study_data import (
    COMPLEMENT,
    NothingToDrawError,
    SearchedKnob,
    StudyData,
    records,
)
from imbtune.storage import join
from imbtune.study.records import COMPLETE, ENDED, ERRORS, FAIL, NOT_METHOD, WORDS, summary

# The error of a trial that diverged, for which its settings are the reason: a repeat is no remedy
DIVERGED = r"^(?![\w.]*(?:Error|Exception)\b).*\bnot finite\b"


def trial_frame(study: StudyData) -> pd.DataFrame:
    """A row per trial that has ended.

    Columns: `trial`; `preset` (null for others); `name`, the preset or the method in a few words;
    `state` in a word; `kind` (winner, best preset, preset or trial); `score` at the highest rung,
    its `budget`; `full`, the score of the full budget (null for others); `r0`, `r1`, …, the score
    at each of the study's rungs; `rescued` and `cutoff`; `images`; `seconds`; `error`; and a column
    `k0`, `k1`, … for each of `study.knobs`, null where the knob does not act.

    Raises:
        NothingToDrawError: no trial has ended.
    """
    trials = study.trials
    if trials.empty:
        where = "the trials that have ended are only in the journal yet"
        raise NothingToDrawError(where if study.done else "no trial has ended yet")
    rows = records(trials)
    frame = pd.DataFrame(
        {
            "trial": trials["trial"].astype(int),
            "preset": trials["preset"].astype(object).where(trials["preset"].notna(), None),
            "name": [name_of(row) for row in rows],
            "state": trials["state"].map(WORDS).fillna(trials["state"]),
            "kind": [kind_of(study, row["trial"], row["preset"]) for row in rows],
            "score": trials["score"].astype(float),
            "budget": trials["budget"].astype(int),
            "full": trials["score"].astype(float).where(trials["state"] == COMPLETE),
            "images": trials["images"].astype(float),
            "seconds": trials["seconds"].astype(float),
            "error": trials["error"].astype(object).where(trials["error"].notna(), None),
            "rescued": trials["rescued"].astype(float),
            "cutoff": trials["cutoff"].astype(float) if "cutoff" in trials else np.nan,
        }
    )
    reached = [dict(zip(row["rung_budgets"], row["rung_scores"], strict=True)) for row in rows]
    for i, budget in enumerate(study.budgets):
        frame[f"r{i}"] = pd.Series([at.get(budget, np.nan) for at in reached], frame.index)
    for knob in study.knobs:
        frame[knob.column] = knob_values(study.trials, knob)
    return frame


def knob_values(trials: pd.DataFrame, knob: SearchedKnob) -> pd.Series:
    """A knob's values as they are drawn: 1 - x on the complement's scale, choices as text.

    They are null where the knob does not act.
    """
    values = trials[knob.name]
    if knob.scale == COMPLEMENT:
        return 1 - values.astype(float)
    if pd.api.types.is_numeric_dtype(values.dtype) and str(values.dtype) != "boolean":
        return values.astype(float)
    return values.astype(object).map(str).where(values.notna(), None)


def name_of(row: Mapping[str, object]) -> str:
    """What a trial is called: its preset, or its method in a few words."""
    if isinstance(row["preset"], str):
        return row["preset"]
    found = {slot: row.get(slot) for slot in DEFAULTS}
    settings = {slot: v if isinstance(v, str) else DEFAULTS[slot] for slot, v in found.items()}
    return summary({**settings, "weights.schedule": str(row.get("weights.schedule", ""))})


def parts_of(row: Mapping[str, object]) -> str:
    """What a trial's method is made of: `mix=mamix weights=balanced weights.schedule=linear`.

    Parts that are the default's are left out.
    """
    found = []
    for slot, default in DEFAULTS.items():
        value = row.get(slot)
        if slot in NOT_METHOD or not isinstance(value, str) or value == default:
            continue
        found.append(f"{slot}={value}")
        schedule = row.get("weights.schedule") if slot == "weights" else None
        found += [f"weights.schedule={schedule}"] if isinstance(schedule, str) else []
    return " ".join(found) or "cross-entropy"


def kind_of(study: StudyData, trial: int, preset: object) -> str:
    """Whether a trial is the winner, the best preset, another preset, or none of these.

    Without finals, the winner and the best preset are those by the score of one run.
    """
    for kind, number in study.compared.items():
        if trial == number:
            return kind
    return "preset" if isinstance(preset, str) else "trial"


def failed_for_good(study: StudyData) -> pd.DataFrame:
    """The failed trials whose configuration no other trial has trained without failing.

    `imbtune resume --retry-failed` repeats a configuration with another seed.
    """
    trials = study.trials
    failed = trials[trials["error"].notna() & (trials["state"] == FAIL)]
    if failed.empty:
        return failed
    knobs = [knob.name for knob in study.knobs]
    key = trials[["preset", *knobs]].astype(object).where(trials[["preset", *knobs]].notna(), None)
    keys = pd.Series([(*row,) for row in key.itertuples(index=False)], trials.index)
    healthy = set(keys[trials["state"].isin(ENDED)])
    if not knobs:  # configurations without a preset cannot be told apart
        healthy = {found for found in healthy if found[0] is not None}
    return failed[[keys[at] not in healthy for at in failed.index]]


def has_to_retry(study: StudyData) -> bool:
    """Whether a failed trial may not fail when it is repeated: it did not diverge."""
    errors = failed_for_good(study)["error"].astype(str)
    return bool((~errors.str.contains(DIVERGED)).any())


def failure_frame(study: StudyData) -> pd.DataFrame:
    """A row per kind of failure, most frequent first: `error`, `trials`, `numbers`, `traceback`.

    Errors that differ in numbers only are one kind. `numbers` are the trials, `traceback` the file
    of the first one that has one, or null. A trial that was repeated without failing is left out.
    """
    failed = failed_for_good(study)
    if failed.empty:
        return pd.DataFrame(columns=["error", "trials", "numbers", "traceback"])
    files = [
        join(study.path, f"{ERRORS}/trial-{n}.txt") if n in study.tracebacks else None
        for n in failed["trial"]
    ]
    rows = failed.assign(
        kind=failed["error"].str.replace(r"0x[0-9a-f]+|\d+(\.\d+)?", "…", regex=True),
        file=pd.Series(files, failed.index, dtype=object),
    )
    groups = rows.groupby("kind", sort=False).agg(
        error=("error", "first"),
        trials=("trial", "size"),
        numbers=("trial", lambda numbers: [int(n) for n in numbers]),
        traceback=("file", "first"),
    )
    return groups.sort_values("trials", ascending=False, kind="stable").reset_index(drop=True)


def progress_frame(study: StudyData) -> pd.DataFrame:
    """A row per finished trial in the order in which they ended: `images`, `score`, `best`.

    `images` are the image passes of all trials that had ended by then. Scores are of
    one run at the full budget.

    Raises:
        NothingToDrawError: no trial has finished.
    """
    ordered = study.trials.sort_values(["ended", "trial"])
    passes = ordered["images"].astype(float).cumsum()
    rows = ordered.assign(passes=passes)[ordered["state"] == COMPLETE]
    if rows.empty:
        raise NothingToDrawError(none_finished(study))
    return pd.DataFrame(
        {
            "trial": rows["trial"].astype(int),
            "name": [name_of(row) for row in records(rows)],
            "kind": [kind_of(study, row["trial"], row["preset"]) for row in records(rows)],
            "images": rows["passes"],
            "score": rows["score"].astype(float),
            "best": rows["score"].astype(float).cummax(),
        }
    ).reset_index(drop=True)


def timeline_frame(study: StudyData) -> pd.DataFrame:
    """A row per run.

    Columns: `trial`, `run`, `what` (its state, or final), `started`, `ended`, `lane`, `place`.

    `place` is the machine and its GPU or CPU; `lane` tells runs of a place at the same time apart.
    Times are in hours since the first run began.

    Raises:
        NothingToDrawError: no trial has trained an epoch, or the study does not record when its
            trials began.
    """
    runs = [_runs(study.trials, study.trials["state"].map(WORDS)), _runs(study.finals, "final")]
    rows = pd.concat([part for part in runs if len(part)]) if any(map(len, runs)) else runs[0]
    if rows.empty:
        raise NothingToDrawError(
            "no trial has trained an epoch"
            if "started" in study.trials
            else "the study does not record when its trials began; studies of this version do"
        )
    first = rows["started"].min()
    for column in ("started", "ended"):
        rows[column] = (rows[column] - first).dt.total_seconds() / 3600
    rows = rows.sort_values(["place", "started"], ignore_index=True)
    lanes = []
    for _, group in rows.groupby("place", sort=True):
        free: list[float] = []  # when the last run of each lane ended
        for run in records(group):
            began = run["started"] + 1e-9
            at = next((i for i, ended in enumerate(free) if ended <= began), len(free))
            free[at : at + 1] = [float(run["ended"])]
            lanes.append(f"{run['place']} · {at + 1}")
    return rows.assign(lane=lanes)


def _runs(table: pd.DataFrame, what: pd.Series | str) -> pd.DataFrame:
    columns = ["trial", "run", "what", "place", "started", "ended"]
    if "started" not in table or "ended" not in table or table["started"].isna().all():
        return pd.DataFrame(columns=columns)
    rows = table.assign(what=what)
    rows = rows[rows["started"].notna() & rows["ended"].notna()]
    return pd.DataFrame(
        {
            "trial": rows["trial"].astype(int),
            "run": [_run_name(row) for row in records(rows)],
            "what": rows["what"].astype(str),
            "place": [_place(row) for row in records(rows)],
            "started": pd.to_datetime(rows["started"], utc=True),
            "ended": pd.to_datetime(rows["ended"], utc=True),
        }
    )


def _run_name(row: Mapping[str, object]) -> str:
    return f"trial {row['trial']}" + (f", seed {row['seed']}" if row["what"] == "final" else "")


def _place(row: Mapping[str, object]) -> str:
    host = row.get("host") or row.get("node") or "one machine"
    gpu = row.get("gpu")
    return f"{host}" if pd.isna(gpu) else f"{host}, GPU {gpu}"  # type: ignore[call-overload]
