"""A made-up table of recorded runs, for the benchmark of searches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from imbtune.methods.lr_schedules import Phases
from imbtune.training.phases import calibration_segments

BUDGETS, N = [1, 3, 9, 27], 12
PHASES = Phases(warmup=0.0, cooldown=0.4)


def write_table(folder: Path) -> None:
    """Scores at random; rows as record.py writes them, with a third seed's run missing once."""
    rng = np.random.default_rng(0)
    rungs, curves = [], []
    for n in range(N):
        settings = {"epochs": 27, "schedule.cooldown": 0.4, "schedule.warmup": 0.0}
        for s in calibration_segments(BUDGETS, PHASES):
            at = {"config": n, "seed": 0, "kind": s.kind, "budget": s.budget}
            for epoch in (*s.epochs, *s.branch):
                score = rng.random()
                curves.append({**at, "score": score, "epoch": epoch.index, "phase": epoch.phase})
            rungs.append({**at, "score": score, **settings})
        for seed in (1, 2) if n else (1,):
            score = rng.random()
            rungs.append(
                {"config": n, "seed": seed, "kind": "cooldown", "budget": 27, "score": score}
            )
    pd.DataFrame(rungs).to_parquet(folder / "made-up-rungs.parquet")
    pd.DataFrame(curves).to_parquet(folder / "made-up-curves.parquet")
