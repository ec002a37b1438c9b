"""From Ray's results to a study's rows: the one Tune callback.

Ray calls it in the driver, one event after another.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from imbtune.results.tables import Sink
from imbtune.search.records import TrialRecord, summary

Say = Callable[[str], None]


class Recorder(Callback):
    """Keeps every trial's record, and sends rows to its `sinks`.

    Args:
        trials: how many the search has.
        full_budget: epochs of a finished trial.
        say: prints a line for the user.
    """

    def __init__(self, trials: int, full_budget: int, say: Say) -> None:
        self.sinks: list[Sink] = []
        self.records: dict[int, TrialRecord] = {}
        self.settings: dict[int, Mapping[str, Any]] = {}  # by number, for W&B
        self._trials, self._full_budget, self._say = trials, full_budget, say
        self._ended = 0

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial begins."""
        config = trial.config
        record = TrialRecord(config["number"], config["preset"], config["settings"], time.time())
        self.records[record.number] = record
        self.settings[record.number] = {**record.settings, "preset": record.preset}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Epoch rows go out; a rung's score is kept."""
        record = self.records[trial.config["number"]]
        record.node, record.images = result["node"], result["images"]
        for row in result["epochs"]:
            stamped = {**row, "trial": record.number, "time": _utc(row["time"])}
            for sink in self.sinks:
                sink.epoch(stamped)
        if "score" in result:
            record.rung_budgets.append(result["budget"])
            record.rung_scores.append(result["score"])
            record.figures = result["figures"]
        self._flush()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial finished its last rung, or ASHA stopped it."""
        record = self.records[trial.config["number"]]
        self._end(record, "COMPLETE" if record.budget == self._full_budget else "PRUNED")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial failed; the search goes on."""
        self._end(self.records[trial.config["number"]], "FAIL", _last_line(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Rows also go out while no result comes in."""
        self._flush()

    def close(self) -> None:
        """The end of the search: rows for trials that it cut off, then the last flush."""
        for record in self.records.values():
            if record.state == "RUNNING":
                self._end(record, "STOPPED")
        for sink in self.sinks:
            sink.close()

    def _end(self, record: TrialRecord, state: str, error: str | None = None) -> None:
        record.state = state
        row = {
            "trial": record.number,
            "preset": record.preset,
            "state": state,
            "score": record.score,
            "budget": record.budget,
            "rung_budgets": record.rung_budgets,
            "rung_scores": record.rung_scores,
            **record.figures,
            "images": record.images,
            "seconds": time.time() - record.started,
            "ended": _utc(time.time()),
            "node": record.node,
            "error": error,
            **record.settings,
        }
        for sink in self.sinks:
            sink.trial(row)
        self._ended += 1
        self._say(self._line(record, error))

    def _line(self, record: TrialRecord, error: str | None) -> str:
        width = len(str(self._trials))
        score = "  –  " if record.score is None else f"{record.score:.3f}"
        reached = f"{score} at {record.budget:>3} epochs"
        name = record.preset or summary(record.settings)
        tail = f"  {error}" if error else ""
        count = f"{self._ended:>{width}}/{self._trials}"
        number = f"trial {record.number}".ljust(6 + width)
        return f"{count}  {number}  {record.state.lower():<8}  {reached}  {name}{tail}"

    def _flush(self) -> None:
        for sink in self.sinks:
            sink.flush()


def _last_line(trial: Any) -> str:
    """The last line of the traceback that Tune has just written; trial.get_error() is not ready."""
    lines = Path(trial.error_file).read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no error was recorded"


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)
