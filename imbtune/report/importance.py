"""Which searched knobs mattered: conditional PED-ANOVA, with an interval from resampled trials.

PED-ANOVA measures how much a knob's distribution among the best tenth of the finished trials
differs from that among all of them (arXiv 2304.10255). Its conditional form weighs a knob that only
some trials have by how often it acts (arXiv 2601.20800). It is evaluated on the values that were
tried, since presets and TPE are no random design.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from imbtune.report.frames.trial_frame import knob_values
from imbtune.report.study_data import CHOICES, LINEAR, NothingToDrawError, StudyData
from imbtune.report.wording import counted

LEAST = 50  # finished trials: of fewer, the best tenth are not 5, as Optuna asks for
RESAMPLES = 30
MOST = 500  # finished trials that are used; more change the result little, and take long
INTERVAL = (5, 95)  # percentiles: a 90 % interval


def importance(study: StudyData) -> pd.DataFrame:
    """How much each searched knob mattered for reaching the best tenth of the finished trials.

    Returns:
        A row per knob, most important first: `knob`, `value` (importances add up to 1), `low` and
        `high` (bootstrapped 90 % interval over trials), `n` (finished trials in which it acts) and
        `of` (finished trials).

    Raises:
        NothingToDrawError: fewer than 50 trials have finished, or none of the knobs varies.
    """
    finished = study.finished
    if len(finished) < LEAST:
        have = counted(len(finished), "finished trial")
        raise NothingToDrawError(
            f"the study has {have} at the full budget, and importance needs {LEAST}, of which it "
            "compares the best tenth with the rest"
        )
    if not study.knobs:
        raise NothingToDrawError("no searched knob is recorded")
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import FrozenTrial, TrialState, create_trial

    rng = np.random.default_rng(0)
    if len(finished) > MOST:
        finished = finished.iloc[np.sort(rng.choice(len(finished), MOST, replace=False))]
    columns = {knob.name: knob_values(finished, knob) for knob in study.knobs}
    columns = {name: values for name, values in columns.items() if values.nunique() > 1}
    scales = {knob.name: knob.scale for knob in study.knobs}
    if not columns:
        raise NothingToDrawError("every searched knob has one value in all finished trials")
    spaces = {name: _distribution(values, scales[name]) for name, values in columns.items()}
    trials: list[FrozenTrial] = []
    for i, score in enumerate(finished["score"]):
        params = {name: values.iloc[i] for name, values in columns.items()}
        acts = {name: value for name, value in params.items() if pd.notna(value)}
        trials.append(
            create_trial(
                state=TrialState.COMPLETE,
                params=acts,
                distributions={name: spaces[name] for name in acts},
                value=float(score),
            )
        )
    evaluator = PedAnovaImportanceEvaluator(evaluate_on_local=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def measured(picks: np.ndarray) -> dict[str, float]:
        memory = optuna.create_study(direction="maximize")
        memory.add_trials([trials[i] for i in picks])
        with warnings.catch_warnings():  # of resamples without any trial of some choice
            warnings.simplefilter("ignore")
            found = optuna.importance.get_param_importances(memory, evaluator=evaluator)
        return {name: found.get(name, 0.0) for name in columns}

    try:
        every = np.arange(len(trials))
        values = measured(every)
        drawn = [measured(rng.choice(every, len(every))) for _ in range(RESAMPLES)]
    finally:
        optuna.logging.set_verbosity(verbosity)
    rows = []
    for name, value in values.items():
        low, high = np.percentile([each[name] for each in drawn], INTERVAL)
        n = int(columns[name].notna().sum())
        rows.append(
            {"knob": name, "value": value, "low": low, "high": high, "n": n, "of": len(finished)}
        )
    frame = pd.DataFrame(rows)
    return frame.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def _distribution(values: pd.Series, scale: str):  # type: ignore[no-untyped-def]
    """Optuna's distribution of the values that occur."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    present = values.dropna()
    if scale == CHOICES or present.dtype == object:
        return CategoricalDistribution(sorted(present.unique()))
    low, high = float(present.min()), float(present.max())
    return FloatDistribution(low, high, log=scale != LINEAR and low > 0)
