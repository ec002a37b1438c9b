"""Progress for programs: one JSON object a line; docs/progress.md describes the keys."""

from __future__ import annotations

from dataclasses import fields

from imbtune import strict_json
from imbtune.progress.log_lines import Log
from imbtune.progress.run_events import (
    TRIALS,
    Downloaded,
    EpochsTrained,
    Event,
    Heartbeat,
    Interrupted,
    Message,
    RunEnded,
    RungReached,
    RunStarted,
    StageStarted,
    WorkEnded,
    WorkerLost,
)
from imbtune.progress.search_progress import SearchProgress
from imbtune.progress.words import stamp

NAMES: dict[type[Event], str] = {
    StageStarted: "stage_started",
    RunStarted: "run_started",
    RungReached: "rung_reached",
    RunEnded: "run_ended",
    WorkerLost: "worker_lost",
    Interrupted: "interrupted",
    Heartbeat: "heartbeat",
    Downloaded: "downloaded",
    Message: "message",
    WorkEnded: "ended",
    EpochsTrained: "epochs_trained",
}
LEFT_OUT = {
    "earlier",
    "steps",
    "full_passes",
    "preset_finals",
    "fresh_seeds",
    "ranked_by",
}  # what only the estimate of the time left and the names of the finals need
# keys of every object besides the event's
STATE = ("stage", "done", "total", "running", "seconds_left")


class JsonView:
    """Writes each event as a JSON object in a line.

    Args:
        write: is called with each line.
    """

    def __init__(self, write: Log) -> None:
        self._write = write

    def show(self, event: Event, progress: SearchProgress) -> None:
        """Write the event.

        Args:
            progress: the state after the event.
        """
        # without a loss there would be too many: one for each epoch
        if not isinstance(event, EpochsTrained) or event.loss is not None:
            self._write(strict_json.dumps(as_json(event, progress)))

    def tick(self, now: float) -> None:
        """Does nothing: lines come with events."""

    def close(self) -> None:
        """Does nothing."""


def as_json(event: Event, progress: SearchProgress) -> dict[str, object]:
    """The object of an event.

    Args:
        progress: the state after the event.
    """
    own = {f.name: getattr(event, f.name) for f in fields(event) if f.name not in LEFT_OUT}
    seconds = progress.seconds_left(event.time)
    found = {
        "event": NAMES[type(event)],
        **own,
        "time": stamp(event.time),
        "stage": progress.stage.stage if progress.stage else None,
        "done": progress.done,
        "total": progress.total,
        "running": len(progress.running),
        "seconds_left": None if seconds is None else round(seconds, 1),
    }
    if isinstance(event, Message):
        found["text"] = event.text.strip("\n")  # blank lines are for people
    is_search = progress.stage is not None and progress.stage.stage == TRIALS
    if isinstance(event, Heartbeat) and progress.best and is_search:
        found |= {"best": progress.best.number, "best_score": progress.best.score}
    return found
