"""Progress as plain lines: for files, pipes, `search.log`, and functions that take lines."""

from __future__ import annotations

from imbtune.metrics.number_text import as_text
from imbtune.progress.log_lines import Log
from imbtune.progress.run_events import (
    FAILED,
    FINALS,
    RUNS,
    SEEDS,
    TRIALS,
    Downloaded,
    EpochsTrained,
    Event,
    Heartbeat,
    Interrupted,
    Message,
    RunEnded,
    WorkEnded,
    WorkerLost,
)
from imbtune.progress.search_progress import SearchProgress
from imbtune.progress.words import (
    NOUN,
    downloaded,
    how_it_ended,
    one_line,
    run_shown,
    stamp,
    states,
    time_left,
)

NAMED = 4  # running finals that a heartbeat names


class PlainView:
    """Writes a line for each event that a user should know of.

    Args:
        write: is called with each line.
        has_time: whether each line begins with its time.
    """

    def __init__(self, write: Log, has_time: bool = True) -> None:
        self._write, self._has_time = write, has_time

    def show(self, event: Event, progress: SearchProgress) -> None:
        """Write the event's lines.

        Args:
            progress: the state after the event.
        """
        for line in map(one_line, lines_of(event, progress)):
            if not self._has_time:
                self._write(line)
            elif line:
                self._write(f"{stamp(event.time)}  {line}")

    def tick(self, now: float) -> None:
        """Does nothing: lines come with events."""

    def close(self) -> None:
        """Does nothing."""


def lines_of(event: Event, progress: SearchProgress) -> list[str]:
    """The lines that say what happened; none for what is not worth a line.

    Args:
        progress: the state after the event.
    """
    match event:
        case Message():
            return event.text.split("\n")
        case RunEnded():
            return [run_line(event, progress)]
        case WorkerLost():
            run = run_shown(event.run, progress, with_seed=True)
            return [f"{run} lost its worker ({event.reason}): {event.text}"]
        case EpochsTrained():
            return _training_line(event, progress)
        case Heartbeat():
            return [_heartbeat(event.time, progress)]
        case Interrupted():
            return ["interrupted: the runs are being ended; what they have reached is kept"]
        case Downloaded():
            return [downloaded(event)]
        case WorkEnded():
            return [event.text]
        case _:
            return []


def run_line(event: RunEnded, progress: SearchProgress) -> str:
    """The line of a run that ended."""
    total, stage = progress.total, progress.stage.stage if progress.stage else RUNS
    width = len(str(total))
    count = f"{progress.done:>{width}}/{total}"
    if stage == TRIALS:
        run = f"trial {event.number}".ljust(6 + width)
        return f"{count}  {run}  {how_it_ended(event)}  {event.name}".rstrip()
    score = "" if event.score is None else as_text(event.score)
    run = run_shown(event.run, progress, with_seed=True)
    if event.state == FAILED:
        return f"{_prefix(stage, count)}{run}: failed: {event.error}"
    took = "" if event.seconds is None else f" ({event.seconds:.0f} s)"
    what = f"{event.name} " if event.name and stage != FINALS else ""
    return f"{_prefix(stage, count)}{run}: {what}{score}{took}"


def _prefix(stage: str, count: str) -> str:
    return {FINALS: f"final {count}  ", SEEDS: ""}.get(stage, f"{count}  ")


def _heartbeat(now: float, progress: SearchProgress) -> str:
    noun = NOUN[progress.stage.stage] if progress.stage else "runs"
    found = [f"progress: {progress.done} of {progress.total} {noun} ended"]
    if words := states(progress):
        found[0] += f" ({words})"
    is_search = progress.stage is not None and progress.stage.stage == TRIALS
    if progress.best and progress.best.score is not None and is_search:
        best = f"best {progress.stage.ranked_by}".rstrip() if progress.stage else "best"
        found.append(f"{best} {as_text(progress.best.score, '.3f')} (trial {progress.best.number})")
    running = f"{len(progress.running)} running"
    if progress.running and progress.stage and progress.stage.stage == FINALS:
        shown = [run_shown(run, progress) for run in list(progress.running)[:NAMED]]
        more = len(progress.running) - len(shown)
        running += f" ({'; '.join([*shown, *([f'{more} more'] if more else [])])})"
    found.append(running)
    return ", ".join(found) + f"; {time_left(progress, now)}"


def _training_line(event: EpochsTrained, progress: SearchProgress) -> list[str]:
    """A line for the epochs of a training that report their loss; other runs have none."""
    running = progress.running.get(event.run)
    is_training = progress.stage is not None and progress.stage.stage == SEEDS
    if not is_training or running is None or event.loss is None:
        return []
    line = f"{event.run}: epoch {event.epoch}/{running.full_budget}, loss {event.loss:.3f}"
    if progress.seconds_left(event.time) is None:  # a short training ends before it is known
        return [line]
    return [f"{line}; {time_left(progress, event.time)}"]
