"""Times, counts and states in words, for every view of the progress."""

from __future__ import annotations

import datetime as dt

from imbtune.errors import printable
from imbtune.metrics.number_text import as_text
from imbtune.progress.run_events import (
    FAILED,
    FINALS,
    FINISHED,
    INTERRUPTED,
    RUNS,
    SEEDS,
    STOPPED,
    TRIALS,
    Downloaded,
    RunEnded,
)
from imbtune.progress.search_progress import SearchProgress

NOUN = {TRIALS: "trials", FINALS: "final runs", RUNS: "runs", SEEDS: "runs"}


def starting(workers: int) -> str:
    """What happens before the first run of a stage begins."""
    return f"Starting {workers} worker{'s' * (workers != 1)}"


def stamp(time: float) -> str:
    """A time as ISO 8601, in UTC as the tables have it, to the second."""
    return f"{dt.datetime.fromtimestamp(time, tz=dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def one_line(text: str) -> str:
    """The text without characters that would move a cursor or change a terminal."""
    return "".join(char if char.isprintable() else " " for char in printable(text))


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 41 min`, `2 d 5 h`."""
    seconds = max(0.0, seconds)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def epochs(count: int | None) -> str:
    """A number of epochs, as in `1 epoch`."""
    return f"{count} epoch{'s' * (count != 1)}"


def how_it_ended(event: RunEnded) -> str:
    """How a trial ended and why, as in "stopped at 27 epochs: 0.417 is below the cut-off 0.850"."""
    score = "" if event.score is None else as_text(event.score, ".3f")
    at = f"at {epochs(event.budget)}"
    if event.state == FINISHED:
        line = f"{FINISHED} {at}: {score}"
        if event.never_pruned:
            cutoff = "" if event.cutoff is None else f" {as_text(event.cutoff, '.3f')}"
            line += (
                f" (never-pruned sample: below the cut-off{cutoff} at {epochs(event.never_pruned)})"
            )
        return line
    if event.state == STOPPED:
        why = "" if event.cutoff is None else f" is below the cut-off {_apart(event)}"
        return f"{STOPPED} {at}: {score}{why}"
    if event.state == FAILED:
        after = f" after {epochs(event.budget)}, {score}" if score else ""
        return f"{FAILED}{after}: {event.error}"
    return f"{INTERRUPTED} {at}: {score}" if score else f"{INTERRUPTED} before its first rung"


def _apart(event: RunEnded) -> str:
    """The cut-off with as many digits as tell it from the score."""
    cutoff, score = event.cutoff or 0.0, event.score or 0.0
    digits = next((n for n in (3, 4, 5, 6) if f"{cutoff:.{n}f}" != f"{score:.{n}f}"), 6)
    return f"{cutoff:.{digits}f}"


def downloaded(event: Downloaded) -> str:
    """As in "downloading cifar-10-python.tar.gz: 50.0 of 170.5 MB (29%), about 40 s left"."""
    line = f"downloading {event.file}: {event.size / 1e6:.1f}"
    if event.whole is None:
        return f"{line} MB"
    line += f" of {event.whole / 1e6:.1f} MB ({event.size / max(1, event.whole):.0%})"
    left = event.seconds_left
    return line if not left else f"{line}, about {duration(left)} left"


def states(progress: SearchProgress) -> str:
    """How many runs ended in which way, as in "5 finished, 7 stopped"."""
    words = (FINISHED, STOPPED, FAILED, INTERRUPTED)
    return ", ".join(f"{progress.ended[s]} {s}" for s in words if progress.ended[s])


def run_shown(run: str, progress: SearchProgress, with_seed: bool = False) -> str:
    """The name of a run; of a final with the place of its seed, as in "trial 3, seed 2 of 3".

    Args:
        with_seed: whether the seed follows, as in "trial 3, seed 2 of 3 (53917133)".
    """
    seeds = progress.stage.fresh_seeds if progress.stage else ()
    begin, _, seed = run.rpartition(" ")
    at = [str(each) for each in seeds]
    if seed not in at:
        return run
    return f"{begin} {at.index(seed) + 1} of {len(at)}" + (f" ({seed})" if with_seed else "")


def time_left(progress: SearchProgress, now: float) -> str:
    """As in "about 40 s left"; that it is not known yet."""
    if progress.has_ended:
        return "ended"
    seconds = progress.seconds_left(now)
    return "time left not known yet" if seconds is None else f"about {duration(seconds)} left"
