"""Rows of a study's tables."""

from __future__ import annotations

import datetime as dt
from typing import Any

KNOBS = {"mix": str, "mix.omega": float, "model.width": int, "optimizer.nesterov": bool}
METRICS = {
    "balanced_accuracy": 0.5,
    "accuracy": 0.6,
    "macro_f1": 0.4,
    "worst_class": 0.1,
    "many": 0.9,
    "medium": None,
    "few": 0.2,
    "recall": [0.1, 0.9],
}


def epoch_row(trial: int, epoch: int) -> dict[str, Any]:
    now = dt.datetime.now(dt.UTC)
    return {
        "trial": trial,
        "epoch": epoch,
        "phase": "trunk",
        "budget": 9,
        "lr": 0.1,
        "loss": 1.5,
        "time": now,
        **METRICS,
    }


def trial_row(trial: int) -> dict[str, Any]:
    return {
        "trial": trial,
        "preset": None,
        "state": "COMPLETE",
        "score": 0.5,
        "budget": 9,
        "rung_budgets": [3, 9],
        "rung_scores": [0.4, 0.5],
        "images": 1000,
        "seconds": 1.5,
        "ended": dt.datetime.now(dt.UTC),
        "node": "n",
        "error": None,
        "mix": "mamix",
        "mix.omega": 0.25,
        "model.width": 16,
        "seed": 4294967295,
        **METRICS,
    }
