"""A study in memory for the report's tests: small, with nulls, names that are hostile to a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from imbtune.report.study_data import StudyData
from imbtune.study.evidence import decide, evidence_of
from imbtune.study.records import FinalRecord

HOSTILE = "</script><b id=hostile>'\"[0].x\\"
CLASSES = ["ship", HOSTILE, "frog"]
COUNTS = [100, 20, 2]


def trial(number: int, score: float | None = 0.5, **changes: Any) -> dict[str, Any]:
    """A row of the trials' table: of even number with ω and full budget, else stopped at 3."""
    finished = number % 2 == 0
    budgets = [] if score is None else [3, 9] if finished else [3]
    row = {
        "trial": number,
        "trunk": number,
        "preset": {0: "erm", 2: HOSTILE}.get(number),
        "state": "FAIL" if score is None else "COMPLETE" if finished else "PRUNED",
        "score": score,
        "budget": budgets[-1] if budgets else 0,
        "rung_budgets": budgets,
        "rung_scores": [(score or 0) / 2, score][-len(budgets) :] if budgets else [],
        "rescued": None,
        "recall": None if score is None else [1.0, score, 0.0],
        "images": 1e6 * (budgets[-1] if budgets else 0),
        "seconds": None if score is None else 60.0,
        "ended": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(minutes=number),
        "error": f"RuntimeError: {HOSTILE} {number}" if score is None else None,
        "mix": "mamix" if finished else "none",
        "mix.omega": 0.1 + number / 200 if finished else None,
        "weights": "none",
        "weights.beta": 0.99 if number % 3 == 0 else None,
        "optimizer.lr": 10 ** (-1 - number / 50),
    }
    return {**row, **changes}


def make_data(
    rows: Sequence[Mapping[str, Any]],
    finals: Mapping[int, Sequence[float]] | None = None,
    *,
    classes: Sequence[str] = CLASSES,
    counts: Sequence[int] = COUNTS,
    info: Mapping[str, Any] | None = None,
    **fields: Any,
) -> StudyData:
    """A study with these trials, whose finals have these scores by trial."""
    columns = list(trial(0))
    frame = pd.DataFrame([{**row} for row in rows], columns=None if rows else columns)
    finals = finals or {}
    frame["finalist"] = frame["trial"].isin(finals) if len(frame) else False
    runs = [FinalRecord(n, s, x) for n, scores in finals.items() for s, x in enumerate(scores)]
    presets = {row["trial"] for row in rows if row["preset"]}
    winner, baseline = decide({}, presets, runs)
    table = pd.DataFrame(
        [{**vars(run), "images": 9e6, "recall": [1.0, run.score, 0.2]} for run in runs],
        columns=["trial", "seed", "score", "images", "recall"],
    )
    content = {
        "name": f"study {HOSTILE}",
        "trials": len(rows),
        "started": "2026-01-01T00:00:00Z",
        "command": f"imbtune search {HOSTILE}",
        "rungs": {"kind": "cooldown", "budgets": [3, 9]},
        "data": {
            "counts": list(counts),
            "validation_counts": [10] * len(counts),
            "classes": list(classes),
        },
        "space": {
            "objective": "balanced_accuracy",
            "knobs": {
                "mix": "none | mamix",
                "mix.omega": "0.1 to 0.5",
                "weights.beta": "0.9 to 0.999, log in 1-x",
                "optimizer.lr": "0.01 to 0.1, log",
            },
        },
        **(info or {}),
    }
    epochs = [
        {"trial": row["trial"], "epoch": epoch, "balanced_accuracy": epoch / 20}
        for row in rows
        for epoch in range(1, row["budget"] + 1)
    ]
    return StudyData(
        path="runs/made",
        info=content,
        trials=frame,
        curves=pd.DataFrame(epochs, columns=["trial", "epoch", "balanced_accuracy"]),
        finals=table,
        winner=winner if runs else None,
        baseline=baseline if runs else None,
        evidence=evidence_of(runs, winner, baseline) if runs else None,
        **fields,
    )


def usual(count: int = 12) -> StudyData:
    """Finished, stopped and failed trials, presets, and finals that trial 4 wins."""
    rng = np.random.default_rng(0)
    rows = [trial(n, 0.4 + 0.2 * float(rng.random())) for n in range(count - 1)]
    rows.append(trial(count - 1, None))
    return make_data(rows, {0: (0.50, 0.52), 4: (0.60, 0.63), 6: (0.55, 0.56)})


def full() -> StudyData:
    """A study that has every figure."""
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2026-01-01", tz="UTC")
    rows = []
    for n in range(130):
        began = start + pd.Timedelta(minutes=n)
        at = {
            "started": began,
            "ended": began + pd.Timedelta(minutes=3),
            "host": "a",
            "gpu": str(n % 2),
        }
        omega = float(rng.uniform(0.1, 0.5)) if n % 4 == 0 else None
        changes = {"mix": "mamix" if omega else "none", "mix.omega": omega, "cutoff": 0.3}
        score = None if n == 129 else float(rng.uniform(0.3, 0.6))
        changes["worst_class"] = score and 0.9 - score
        rows.append(trial(n, score, rescued=3 if n == 10 else None, **at, **changes))
    margins = {"probability_margin_train": [0.9] * 3, "probability_margin_val": [0.5] * 3}
    study = make_data([{**row, **margins} for row in rows], {0: (0.5, 0.52), 4: (0.6, 0.63)})
    cells = [{"label": 0, "predicted": 1, "count": 3}, {"label": 1, "predicted": 1, "count": 7}]
    study.finals["confusion"] = pd.Series([cells] * len(study.finals))
    study.finals["worst_class"] = 0.9 - study.finals["score"]
    study.info["space"]["objectives"] = ["balanced_accuracy", "worst_class"]
    return study
