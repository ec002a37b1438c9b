"""From Ray's results to a study's rows: the one Tune callback of a search.

Ray calls it in the driver, one event after another. What it writes of a trial is what Optuna's
journal has of it, so a resumed search can write the same rows again.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from imbtune.space.search_space import SearchSpace
from imbtune.storage import Store
from imbtune.study import checkpoints
from imbtune.study.journal import Journal, one_trial, trial_record
from imbtune.study.records import WORDS, TrialRecord, summary
from imbtune.study.tables.parquet import Sink

Say = Callable[[str], None]
FLUSH_SECONDS = 5.0  # how often rows become a part, and the disk or bucket gets the journal


class Recorder(Callback):
    """Sends a study's rows to its `sinks`, and says how each trial ended.

    Args:
        trials: how many the search has. ended: how many have ended before.
        rescued: of the scheduler.
        say: prints a line for the user.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        space: SearchSpace,
        seed: int,
        trials: int,
        ended: int,
        rescued: Mapping[int, int],
        say: Say,
    ) -> None:
        self.sinks: list[Sink] = []
        self.settings: dict[int, Mapping[str, Any]] = {}  # by number, for W&B
        self.errors: dict[int, str] = {}
        self._nodes: dict[int, str] = {}
        self._journal, self._store, self._space, self._seed = journal, store, space, seed
        self._flushed = time.monotonic()
        self._trials, self._ended, self._rescued, self._say = trials, ended, rescued, say

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trunk begins."""
        config = trial.config
        for number, settings in zip(config["trials"], config["settings"], strict=True):
            self.settings[number] = {**settings, "preset": config["preset"]}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Epoch rows go out."""
        self._nodes |= dict.fromkeys(trial.config["trials"], result["node"])
        for row in result["epochs"]:
            for sink in self.sinks:
                sink.epoch({**row, "time": _utc(row["time"])})
        self._flush()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trunk finished its last rung, or ASHA stopped it."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trunk failed; the search goes on."""
        self.errors |= dict.fromkeys(trial.config["trials"], last_line(trial))
        self._end(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Rows also go out while no result comes in."""
        self._flush()

    def close(self, cut_off: list[TrialRecord]) -> None:
        """The end of the search: rows for trials that it cut off, then the last flush."""
        self._journal.sync()
        for record in cut_off:
            self._write(record)
        for sink in self.sinks:
            sink.close()

    def _end(self, trial: Any) -> None:
        for number in trial.config["trials"]:
            frozen = one_trial(self._journal.study, number)
            self._write(trial_record(frozen, self._space, self._seed, self._rescued))
        checkpoints.drop(self._store, trial.config["number"])

    def _write(self, record: TrialRecord) -> None:
        row = trial_row(record, self.errors)
        row["node"] = self._nodes.get(record.number, row["node"])  # of one without a rung too
        for sink in self.sinks:
            sink.trial(row)
        self.settings.pop(record.number, None)
        self._ended += 1
        self._say(self._line(record))

    def _line(self, record: TrialRecord) -> str:
        width = len(str(self._trials))
        score = "  –  " if record.score is None else f"{record.score:.3f}"
        reached = f"{score} at {record.budget:>3} epochs"
        name = record.preset or summary(record.settings)
        tail = f"  {self.errors[record.number]}" if record.number in self.errors else ""
        count = f"{self._ended:>{width}}/{self._trials}"
        number = f"trial {record.number}".ljust(6 + width)
        return f"{count}  {number}  {WORDS[record.state]:<8}  {reached}  {name}{tail}"

    def _flush(self) -> None:
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._journal.sync()  # before the rows: it is never behind them
            for sink in self.sinks:
                sink.flush()
            self._flushed = time.monotonic()


def trial_row(record: TrialRecord, errors: Mapping[int, str]) -> dict[str, Any]:
    """A trial's row in the table."""
    return {
        **record.row(),
        "ended": _utc(record.ended),
        "error": errors.get(record.number),
    }


def last_line(trial: Any) -> str:
    """The last line of the traceback that Tune has just written; trial.get_error() is not ready."""
    lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no error was recorded"


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
