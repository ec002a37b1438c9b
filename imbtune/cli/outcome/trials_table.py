"""The table of the best trials of a search, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.table import Table

from imbtune.metrics.number_text import as_text
from imbtune.registry import Value
from imbtune.study.evidence import scores_by_trial
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, TrialRecord, summary

SHOWN = 5  # trials in the table, if there are no more finalists


def trials_table(outcome: SearchOutcome) -> Table:
    """The best trials, a row each: their means over the finals, and their scores of one run."""
    finals = scores_by_trial(outcome.finals)
    objectives = outcome.objectives
    table = Table(
        title=f"best finished trials, by {objectives[0]} on validation images",
        box=box.SIMPLE_HEAD,  # without vertical lines, the configurations fit into 80 columns
    )
    table.add_column("trial", justify="right")
    if finals:
        seeds = len(next(iter(finals.values())))
        heading = f"mean{' ± std' * (seeds > 1)} of\n{fresh_seeds(seeds)}"
        table.add_column(heading, justify="right", min_width=len(_mean_and_std(np.zeros(seeds))))
    others = [metric.name for metric in objectives[1:]] or ["worst_class"]
    lower = ["\n(lower is\nbetter)" * (metric.sign < 0) for metric in objectives[1:]] or [""]
    named = [
        f"{name.replace('_', chr(10))},\none run{low}"
        for name, low in zip(others, lower, strict=True)
    ]
    for heading in ("score,\none run", *named):
        table.add_column(heading, justify="right", min_width=len("0.0000"))
    table.add_column("configuration", overflow="fold")
    shown = _shown(outcome)
    for record, configuration in zip(shown, _told_apart(shown), strict=True):
        cells = [str(record.number)]
        if finals:
            scores = finals.get(record.number)
            cells.append("" if scores is None else _mean_and_std(scores))
        cells += [as_text(value) for value in (record.score, *map(record.metrics.get, others))]
        table.add_row(*cells, configuration)
    return table


def _shown(outcome: SearchOutcome) -> list[TrialRecord]:
    """The trials of the table: all finalists by their mean, then others by their score.

    The trial with the highest score and the best preset are always among them.
    """
    finals = {trial: s.mean() for trial, s in scores_by_trial(outcome.finals).items()}
    finished = [r for r in outcome.records if r.state == COMPLETE]
    by_score = sorted(finished, key=lambda r: (-(r.score or 0), r.number))
    finalists = sorted(
        (r for r in finished if r.number in finals), key=lambda r: (-finals[r.number], r.number)
    )
    rows = finalists + [r for r in by_score if r.number not in finals]
    needed = {*finals, by_score[0].number, *([outcome.baseline.number] if outcome.baseline else [])}
    fill = max(0, SHOWN - len(needed))
    for record in [r for r in rows if r.number not in needed][:fill]:
        needed.add(record.number)
    return [r for r in rows if r.number in needed]


def _told_apart(records: Sequence[TrialRecord]) -> list[str]:
    """Each trial in a few words, and the knobs in which it differs from those of the same words."""
    texts = [described(record) for record in records]
    found = []
    for record, text in zip(records, texts, strict=True):
        alike = [r for r, other in zip(records, texts, strict=True) if other == text]
        keys = dict.fromkeys(key for r in alike for key in r.settings)
        differ = [k for k in keys if len({r.settings.get(k) for r in alike}) > 1 and k != "seed"]
        differ = differ or (["seed"] if len(alike) > 1 else [])
        values = [
            f"{key}={value_shown(record.settings[key], [r.settings.get(key) for r in alike])}"
            for key in differ
            if key in record.settings
        ]
        found.append(": ".join([text, " ".join(values)]) if values else text)
    return found


def value_shown(value: Value, others: Sequence[Value | None]) -> str:
    """A number with three significant digits, or all if it would look like another one."""
    if not isinstance(value, float):
        return str(value)
    short = {f"{other:.3g}" for other in {*others} if isinstance(other, float)}
    distinct = len({other for other in others if isinstance(other, float)})
    return f"{value:.3g}" if len(short) == distinct else str(value)


def fresh_seeds(seeds: int) -> str:
    """`1 fresh seed`, `3 fresh seeds`."""
    return f"{seeds} fresh seed{'s' * (seeds > 1)}"


def _mean_and_std(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
    return f"{as_text(scores.mean())}{spread}"


def described(record: TrialRecord) -> str:
    """The name of a preset, or the parts of another configuration."""
    return f"{record.preset} (preset)" if record.preset else summary(record.settings)
