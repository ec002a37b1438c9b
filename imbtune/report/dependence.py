"""How the score depends on one knob, averaged over the others, with a band of uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from imbtune.report.frames.trial_frame import knob_values
from imbtune.report.importance import LEAST
from imbtune.report.study_data import CHOICES, LINEAR, NothingToDrawError, SearchedKnob, StudyData

FORESTS, TREES, GRID = 10, 20, 15
ACTING = 30  # finished trials in which a knob acts, at least
MOST = 400  # finished trials that a forest is fitted to
AVERAGED = 60  # of the trials over whose other knobs the curve is averaged
INTERVAL = (0.05, 0.5, 0.95)  # quantiles over the forests


def dependence_frame(study: StudyData) -> pd.DataFrame:
    """The partial dependence of the score on each numeric knob, over the trials in which it acts.

    Random forests are fitted to resampled finished trials; the band is the 90 % range of their
    curves. The curve ends where the 5 % lowest and highest tried values begin, since forests know
    nothing beyond.

    Returns:
        A row per knob and value: `column` (`k3`), `x`, `low`, `mean`, `high`.

    Raises:
        NothingToDrawError: fewer than 50 trials have finished, or no numeric knob acts in 30.
    """
    finished = study.finished
    if len(finished) < LEAST:
        raise NothingToDrawError(
            f"curves need at least {LEAST} trials that were trained to the full budget, and the "
            f"study has {len(finished)}"
        )
    numeric = [k for k in study.knobs if k.scale != CHOICES]
    drawn = [k for k in numeric if finished[k.name].notna().sum() >= ACTING]
    drawn = [k for k in drawn if finished[k.name].nunique() > 3]
    if not drawn:
        raise NothingToDrawError(f"no numeric knob acts in {ACTING} finished trials")
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import partial_dependence

    rng = np.random.default_rng(0)
    inputs, scores = _inputs(finished, study), finished["score"].to_numpy(dtype=float)
    curves: dict[str, list[np.ndarray]] = {knob.column: [] for knob in drawn}
    grids = {knob.column: _grid(inputs[knob.column]) for knob in drawn}
    for seed in range(FORESTS):
        picks = rng.choice(len(inputs), min(MOST, len(inputs)))
        forest = RandomForestRegressor(TREES, min_samples_leaf=3, random_state=seed)
        forest.fit(inputs.iloc[picks], scores[picks])
        for knob in drawn:
            acting = inputs[inputs[knob.column].notna()]
            rows = acting.iloc[rng.choice(len(acting), min(AVERAGED, len(acting)), replace=False)]
            found = partial_dependence(
                forest,
                rows,
                [knob.column],
                kind="average",
                method="brute",
                custom_values={knob.column: grids[knob.column]},
            )
            curves[knob.column].append(found["average"][0])
    parts = []
    for knob in drawn:
        low, mean, high = np.quantile(np.stack(curves[knob.column]), INTERVAL, axis=0)
        x = grids[knob.column]
        drawn_x = x if knob.scale == LINEAR else np.exp(x)
        columns = {"column": knob.column, "x": drawn_x, "low": low, "mean": mean, "high": high}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _inputs(finished: pd.DataFrame, study: StudyData) -> pd.DataFrame:
    """The knobs as numbers: logarithms on log scales, a column of 0 and 1 for each choice.

    Null stays null, which trees can split by; of a choice that does not act, every column is 0.
    """
    found = {}
    for knob in study.knobs:
        values = knob_values(finished, knob)
        if knob.scale == CHOICES:
            for i, level in enumerate(sorted(values.dropna().unique())):
                found[f"{knob.column}_{i}"] = (values == level).astype(float)
        else:
            found[knob.column] = _as_input(values, knob)
    return pd.DataFrame(found)


def _as_input(values: pd.Series, knob: SearchedKnob) -> pd.Series:
    numbers = values.astype(float)
    return numbers if knob.scale == LINEAR else numbers.where(numbers > 0).map(np.log)


def _grid(values: pd.Series) -> np.ndarray:
    low, high = values.quantile([0.05, 0.95])
    return np.linspace(low, high, GRID)
