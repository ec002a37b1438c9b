"""The live view's content: at most 20 lines of text, fitted into a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from rich.cells import cell_len, set_cell_size

from imbtune.metrics.number_text import as_text
from imbtune.progress.run_events import FAILED, FINALS, FINISHED, STOPPED, TRIALS, RunEnded
from imbtune.progress.search_progress import Running, SearchProgress
from imbtune.progress.words import (
    NOUN,
    downloaded,
    duration,
    epochs,
    run_shown,
    starting,
    time_left,
)

MOST_LINES = 20
LEAST_ROWS = 2  # of the terminal that stay for the lines above
RUNNING, BEST, RUNGS = 5, 3, 4  # lines of these parts at most
BAR = ("━", "─")


@dataclass(frozen=True)
class Line:
    """A line of the view.

    Attributes:
        text: as it is printed.
        style: rich's name for it.
        rank: lines of a higher rank are left out first where the terminal is too small.
    """

    text: str
    style: str = ""
    rank: int = 1


def live_lines(progress: SearchProgress, now: float, width: int, height: int) -> list[Line]:
    """The view of the state.

    Args:
        now: in seconds since 1970.
        width: columns of the terminal; lines are cut there.
        height: rows of the terminal.
    """
    lines = [*_head(progress, now, width), *_middle(progress, now), *_tail(progress)]
    return fitted(lines, width, min(MOST_LINES, max(1, height - LEAST_ROWS)))


def fitted(lines: Iterable[Line], width: int, most: int) -> list[Line]:
    """The lines cut to a width, without the least important ones if there are too many."""
    kept = list(lines)
    while len(kept) > most:
        least = max(line.rank for line in kept)
        kept.pop(max(i for i, line in enumerate(kept) if line.rank == least))
    return [Line(cut(line.text, width), line.style, line.rank) for line in kept]


def cut(text: str, width: int) -> str:
    """The text, cut to so many columns; control characters, which would move the cursor, are ?."""
    text = "".join(char if char.isprintable() else "?" for char in text).rstrip()
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1)}…" if width > 1 else set_cell_size(text, width)


def _head(progress: SearchProgress, now: float, width: int) -> list[Line]:
    if progress.stage is None:
        return _download(progress)
    stage = progress.stage
    begun = duration(now - stage.time)
    title = " · ".join(filter(None, (stage.name, stage.objective, stage.path)))
    share = progress.done / progress.total if progress.total else 1.0
    counts = f" {progress.done}/{progress.total} {NOUN[stage.stage]} · {begun}"
    counts += " in this stage" if stage.stage in (TRIALS, FINALS) else ""
    bar = max(0, min(40, width - len(counts)))
    filled = round(bar * share)
    running, workers = len(progress.running), stage.workers
    words = [
        f"{FINISHED} {progress.ended[FINISHED]}",
        *([f"{STOPPED} {progress.ended[STOPPED]}"] if stage.eta else []),
        f"{FAILED} {progress.ended[FAILED]}",
        starting(progress.workers) if progress.is_starting else f"running {running} of {workers}",
    ]
    runs = 0 if progress.has_ended else progress.final_runs
    finals = f" (finals included: {runs} runs)" if runs else ""
    return [
        Line(title, "bold", 5),
        Line(BAR[0] * filled + BAR[1] * (bar - filled) + counts, "", 0),
        Line(" · ".join(words), "", 1),
        Line(f"{time_left(progress, now)}{finals}", "", 0),
        *_download(progress),
    ]


def _download(progress: SearchProgress) -> list[Line]:
    return [] if progress.download is None else [Line(downloaded(progress.download), "", 0)]


def _middle(progress: SearchProgress, now: float) -> list[Line]:
    if progress.stage is None:
        return []
    if progress.stage.stage == FINALS:
        return [*_finals(progress), *_running(progress, now)]
    return [*_rungs(progress), *_best(progress), *_running(progress, now)]


def _rungs(progress: SearchProgress) -> list[Line]:
    """Where the trials stand at each rung, and the cut-off there."""
    assert progress.stage
    if progress.stage.stage != TRIALS or progress.stage.eta is None:
        return []
    found = []
    full = max(progress.rungs, default=0)
    for budget, rung in sorted(progress.rungs.items()):
        scored = len(rung.scored)
        text = f"  {epochs(budget):>11}: {scored} scored"
        if budget < full:
            text += f", {rung.stopped} stopped"
            text += "" if rung.cutoff is None else f", cut-off {as_text(rung.cutoff, '.3f')}"
        found.append(Line(text, "", 3))
    return [Line("rungs", "bold", 4), *found[-RUNGS:]] if found else []


def _best(progress: SearchProgress) -> list[Line]:
    best, preset = progress.best, progress.best_preset
    if best is None or progress.stage is None or progress.stage.stage != TRIALS:
        return []
    error = progress.stage.score_error
    note = f" (one score: standard error up to {error:.3f})" if error else ""
    of = f" by {progress.stage.ranked_by}" if progress.stage.ranked_by else ""
    found = [Line(f"best so far{of}{note}", "bold", 4), Line(_scored(best, ""), "green", 1)]
    if preset is not None:
        what = ", the best preset" if preset is not best else ", a preset: the best so far is one"
        if preset is best:
            found[-1] = Line(_scored(best, what), "green", 1)
        else:
            found.append(Line(_scored(preset, what), "", 2))
    return found[: 1 + BEST]


def _scored(event: RunEnded, what: str) -> str:
    return f"  {as_text(event.score, '.3f')}  trial {event.number}  {event.name}{what}"


def _finals(progress: SearchProgress) -> list[Line]:
    """The finalists by their mean so far."""
    ranked = sorted(progress.finals.items(), key=lambda item: -mean(item[1]))
    found = [
        Line(f"  {as_text(mean(scores), '.3f')}  trial {number}, {_seeds(scores)}", "", 2)
        for number, scores in ranked
    ]
    words = "mean over fresh seeds so far" if found else "the best trials again, with fresh seeds"
    return [Line(f"finals, {words}", "bold", 4), *found[:RUNNING]]


def _seeds(scores: Sequence[float]) -> str:
    return f"{len(scores)} seed{'s' * (len(scores) > 1)}"


def _running(progress: SearchProgress, now: float) -> list[Line]:
    """The running runs that began first, with what they have reached."""
    if not progress.running:
        return []
    has_rungs = bool(progress.stage and progress.stage.budgets)
    rows = [("running", "epoch", "last rung" if has_rungs else "", "left")]
    shown = sorted(progress.running.values(), key=lambda run: run.start.time)
    rows += [_run_row(progress, run, now) for run in shown[:RUNNING]]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(4)]
    found = []
    for i, row in enumerate(rows):
        sized = zip(row, widths, strict=True)
        cells = [set_cell_size(cell, size) for cell, size in sized if size]
        name = shown[i - 1].start.name if i else ""
        found.append(Line("  ".join([*cells, name]), "" if i else "bold", 2 if i else 4))
    if len(shown) > RUNNING:
        found.append(Line(f"  … {len(shown) - RUNNING} more", "dim", 4))
    return found


def _run_row(progress: SearchProgress, run: Running, now: float) -> tuple[str, str, str, str]:
    seconds = progress.run_seconds_left(run, now)
    rung = "" if run.last is None else f"{as_text(run.last.score, '.3f')} at {run.last.budget}"
    return (
        f"  {run_shown(run.start.run, progress)}",
        f"{run.epoch}/{run.full_budget}" if run.full_budget else f"{run.epoch}",
        rung,
        "" if seconds is None else duration(seconds),
    )


def _tail(progress: SearchProgress) -> list[Line]:
    found = []
    for reason, count in progress.failures.most_common(2):
        found.append(Line(f"FAILED {count}×: {reason}", "red", 1))
    if progress.is_interrupted:
        found.append(Line("interrupted: the runs are ended; Ctrl-C again ends at once", "bold", 0))
    elif progress.stage and not progress.has_ended:
        resume = progress.stage.resume
        safely = f"Ctrl-C ends it, and nothing is lost; to go on: {resume}"
        found.append(Line(safely if resume else "Ctrl-C ends it", "dim", 2))
    return found
