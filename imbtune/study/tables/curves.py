"""Learning curves from the epochs' table."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd


def last_curves(epochs: pd.DataFrame, trunks: Mapping[int, int]) -> pd.DataFrame:
    """The rows that led to each trial's last model, in the order of epochs.

    At a rung a copy of the trial goes through a cool-down, and then the trunk goes on. So the table
    has one trunk and several cool-downs. The last curve is the trunk up to the last cool-down that
    was begun, and that cool-down; or the trunk alone, where it has gone on since.

    Args:
        epochs: the rows of `epochs`.
        trunks: for each trial the number of the trial whose trunk it shares; its own for most. A
            trial that is left out has a trunk of its own.

    Returns:
        The same columns. `trial` is the trial whose curve it is, also for rows of a shared trunk.
    """
    by_trial: dict[int, pd.DataFrame] = {
        int(str(number)): rows for number, rows in epochs.groupby("trial")
    }
    found = []
    for trial in sorted(set(by_trial) | set(trunks)):
        own = by_trial.get(trial, epochs.iloc[:0])
        shared = by_trial.get(trunks.get(trial, trial), epochs.iloc[:0])
        found.append(_last_curve(own, shared[shared["phase"] == "trunk"]).assign(trial=trial))
    curves = pd.concat(found, ignore_index=True) if found else epochs.iloc[:0]
    return curves.assign(trial=curves["trial"].astype(epochs["trial"].dtype))


def _last_curve(own: pd.DataFrame, trunk: pd.DataFrame) -> pd.DataFrame:
    """One trial's curve.

    Args:
        own: rows of the trial.
        trunk: of the trunk's rows those of the trunk alone.
    """
    if own.empty:
        return trunk.sort_values("epoch")
    last = own.sort_values(["time", "epoch"]).iloc[-1]
    same_run = trunk[trunk["budget"] == last["budget"]]  # a compressed schedule has its own trunk
    trunk = trunk if same_run.empty else same_run
    if last["phase"] == "trunk":
        return trunk.sort_values("epoch")
    branch = own[(own["phase"] == "cooldown") & (own["budget"] == last["budget"])]
    before = trunk[trunk["epoch"] < branch["epoch"].min()]
    curve: pd.DataFrame = pd.concat([before, branch]).sort_values("epoch")
    return curve
