"""A comparison and a calibration on disk that no training made, as imbtune writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from imbtune.spaces.space_file import load_space
from imbtune.storage import Store
from imbtune.study.results.calibration_result import Advice, Basis, Calibration, RungQuality
from imbtune.study.results.comparison_record import RUN_SCHEMA, Comparison, Row
from imbtune.study.tables.schema import SCORES

Scores = Mapping[str, Sequence[float]]
SCORES_OF: Scores = {"mamix_drw": (0.80, 0.82, 0.81), "erm": (0.70, 0.71, 0.69)}


def made_comparison(
    path: str,
    scores: Scores = SCORES_OF,
    seeds: int = 3,
    objective: str = "balanced_accuracy",
    reference: str | None = None,
) -> str:
    """A comparison of rows on digits-lt with these scores, of which some may be missing."""
    store, preset = Store(path), load_space("digits-lt").preset("erm").flat()
    store.create()
    rows = tuple(Row(name, name, None, None, preset) for name in scores)
    comparison = Comparison(rows, tuple(range(seeds)), reference)
    content = yaml.safe_load(comparison.yaml()) | {"imports": ["no_such_plugin"]}
    store.write("comparison.yaml", yaml.safe_dump(content).encode())
    _write_study(store, "comparison", objective, len(comparison.runs), {"train": 276, "test": 400})
    for name, of_row in scores.items():
        for seed, score in enumerate(of_row):
            metrics = {objective: score, "balanced_accuracy": min(score, 1.0), "many": None}
            metrics |= {"medium": min(1.0, score), "few": score / 2, "seconds": 60.0}
            columns = {"row": name, "preset": name, "seed": seed, **metrics}
            schema = RUN_SCHEMA
            if objective not in schema.names:
                schema = schema.append(pa.field(objective, pa.float64()))
            table = pa.Table.from_pylist([columns], schema=schema)
            store.write_table(f"runs/{name.replace('/', '_')}-seed{seed}.parquet", table)
    return path


def made_calibration(path: str, rho: float | None = 0.9, done: int = 16) -> str:
    """A calibration of 8 trials; with a result unless ρ of its first rung is None."""
    store = Store(path)
    store.create()
    _write_study(store, "calibration", "balanced_accuracy", 8, {})
    for run in range(done):
        table = pa.Table.from_pylist([], schema=SCORES)
        store.write_table(f"scores/{run // 2}-{run % 2}.parquet", table)
    if rho is not None:
        rungs = [
            RungQuality("cooldown", 3, rho, rho - 0.2, rho + 0.05, 0.7, 0.4),
            RungQuality("cooldown", 9, rho, rho - 0.1, rho + 0.05, 0.8, 0.6),
            RungQuality("prefix", 3, rho / 3, -0.1, 0.6, 0.3, 0.3),
        ]
        usable = rho > 0.5
        advice = Advice("cooldown" if usable else "none", 3, 3 if usable else 1, 3, "it is <so>")
        basis = Basis({"epochs": 27}, {}, "0" * 64)
        found = Calibration(8, 27, 0.9, 0.8, 1.0, 0.012, rungs, advice, basis)
        store.write(
            "calibration.yaml", yaml.safe_dump(found.to_dict(), allow_unicode=True).encode()
        )
    return path


def _write_study(
    store: Store, purpose: str, objective: str, trials: int, data: Mapping[str, Any]
) -> None:
    content = {
        "name": store.path.rpartition("/")[2],
        "purpose": purpose,
        "started": "2026-01-01T00:00:00Z",
        "command": f"imbtune {purpose} <b>",
        "trials": trials,
        "data": dict(data),
        "space": {"name": "digits-lt", "objective": objective, "objectives": [objective]},
    }
    store.write("study.yaml", yaml.safe_dump(content).encode())
