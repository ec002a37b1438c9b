"""Prints how a search ended: the best trials, the winner, and what early stopping cost."""

from __future__ import annotations

import shlex

import numpy as np
from rich.console import Console
from rich.table import Table

from imbtune.storage import join
from imbtune.study.evidence import Evidence, is_above, scores_by_trial
from imbtune.study.hints import program, resume_command
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import (
    COMPLETE,
    ENDED,
    PRUNED,
    STOPPED,
    WORDS,
    TrialRecord,
    summary,
)

SHOWN = 5  # trials in the table


def print_outcome(outcome: SearchOutcome, console: Console) -> None:
    """Print the best trials, the winner compared with the best preset, and the next command."""
    request = outcome.request
    states = [record.state for record in outcome.records]
    counts = ", ".join(f"{states.count(s)} {word}" for s, word in WORDS.items() if s in states)
    done = f"{len(states)} of {request.trials} trials in {outcome.seconds:.0f} s: {counts}"
    console.print(f"\n{'Interrupted after ' if outcome.interrupted else ''}{done}")
    if stopping := stopping_line(outcome):
        console.print(stopping)
    if outcome.dropped:
        numbers = ", ".join(map(str, outcome.dropped))
        console.print(
            f"Left out of the finals, because one of their runs failed: trial {numbers}\n"
            f"  To train the failed runs again: {resume_command(outcome.path)}",
            soft_wrap=True,
        )
    if outcome.winner:
        console.print(_table(outcome))
        console.print(_comparison(outcome))
    else:
        console.print(_no_winner(outcome), soft_wrap=True)
    left = len(states) < request.trials or STOPPED in states
    if left or outcome.interrupted:
        why = "Next" if outcome.interrupted else "The time budget is used up"
        console.print(f"\n{why}: to resume the search:")
        console.print(f"  {resume_command(outcome.path)}", soft_wrap=True)
    if outcome.interrupted:
        return
    if outcome.winner:
        best = shlex.quote(join(outcome.path, "best.yaml"))
        options = f" --data {shlex.quote(str(request.data))}" if request.data else ""
        options += " --skip-corrupt" if request.skip_corrupt else ""
        console.print("\nNext: train it on all training data and test it once, with fresh seeds:")
        console.print(f"  {program()} train {best} --seeds 5{options}", soft_wrap=True)


def stopping_line(outcome: SearchOutcome) -> str:
    """How much training early stopping saved, and whether it lost the best trial.

    The latter is measured with the never-pruned sample: trials that ASHA would have stopped, but
    that ran to the end. Empty if nothing was stopped.
    """
    stopped = [r for r in outcome.records if r.state == PRUNED]
    never_pruned = [r for r in outcome.records if r.never_pruned and r.state == COMPLETE]
    others = [r for r in outcome.records if not r.never_pruned and r.state == COMPLETE]
    if not (stopped and others and outcome.full_images):
        return ""
    share = sum(r.images for r in outcome.records if r.state in ENDED) / outcome.full_images
    saved = f"Early stopping: {share:.0%} of the image passes that full runs of all trials take"
    if not never_pruned:
        return f"{saved}; no trial was exempted from it to measure whether it lost good trials."
    best = max(never_pruned, key=lambda r: r.score or 0.0)
    lead = max(r.score or 0.0 for r in others) - (best.score or 0.0)
    verdict = (
        "none of them is the best trial"
        if lead >= 0
        else f"early stopping would have lost trial {best.number}, the best one"
    )
    total = len(stopped) + len(never_pruned)
    return (
        f"{saved}; {len(never_pruned)} of {total} trials to be stopped ran to the end to measure "
        f"whether it loses good trials:\n  {verdict}. The best of them scored {best.score:.4f}, "
        f"{-100 * lead:+.2f} points compared with the best other trial."
    )


def _no_winner(outcome: SearchOutcome) -> str:
    finished = [r for r in outcome.records if r.state == COMPLETE]
    if not finished:
        return f"No trial was trained to the full budget. {outcome.path} has the results so far."
    best = max(finished, key=lambda r: r.score or 0.0)
    if is_above(best.score or 0.0, outcome.chance):
        return (
            f"No winner: trial {best.number} has the best score, {best.score:.4f}, but its runs "
            "with fresh seeds failed, or score no better than a model that predicts one class only "
            f"({outcome.chance:.4f})."
        )
    return (
        f"No winner: the best trial, {best.number}, scores {best.score:.4f}, no better than a "
        f"model that predicts one class only ({outcome.chance:.4f}). Search with other settings, "
        "more epochs or more images."
    )


def _table(outcome: SearchOutcome) -> Table:
    finals = scores_by_trial(outcome.finals)
    table = Table(
        title=f"best finished trials, by {outcome.request.space.objective} on validation images"
    )
    table.add_column("trial", justify="right")
    if finals:
        seeds = len(next(iter(finals.values())))
        table.add_column(f"mean{' ± std' * (seeds > 1)} of {_fresh(seeds)}", justify="right")
    for heading in ("score", "worst class", "lr"):
        table.add_column(heading, justify="right")
    table.add_column("configuration")
    for record in _ranked(outcome)[:SHOWN]:
        cells = [str(record.number)]
        if finals:
            scores = finals.get(record.number)
            cells.append("" if scores is None else _mean_and_std(scores))
        cells += [
            f"{record.score:.4f}",
            f"{record.metrics['worst_class']:.4f}",
            f"{record.settings['optimizer.lr']:.3g}",
        ]
        table.add_row(*cells, _describe(record))
    return table


def _ranked(outcome: SearchOutcome) -> list[TrialRecord]:
    """Finished trials, best first: finalists by their mean, then the others by their score. The
    best preset is always among the first `SHOWN`."""
    finals = {trial: s.mean() for trial, s in scores_by_trial(outcome.finals).items()}
    finished = [r for r in outcome.records if r.state == COMPLETE]
    ranked = sorted(
        finished,
        key=lambda r: (r.number not in finals, -finals.get(r.number, 0), -(r.score or 0)),
    )
    if outcome.baseline and outcome.baseline not in ranked[:SHOWN]:
        ranked.insert(SHOWN - 1, outcome.baseline)
    return ranked


def _fresh(seeds: int) -> str:
    return f"{seeds} fresh seed{'s' * (seeds > 1)}"


def _mean_and_std(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
    return f"{scores.mean():.4f}{spread}"


def _comparison(outcome: SearchOutcome) -> str:
    winner, baseline = outcome.winner, outcome.baseline
    assert winner and winner.score is not None
    evidence = outcome.evidence
    lead = f"\nWinner: trial {winner.number}, {_describe(winner)}: "
    lead += _interval(evidence) if evidence else f"{winner.score:.4f}"
    if not baseline or baseline.score is None:
        why = "the space has no preset"
        if outcome.request.space.presets():
            finished = any(r.preset and r.state == COMPLETE for r in outcome.records)
            why = "the finals of the best preset failed" if finished else "no preset finished"
        return f"{lead}; {why}, so there is no baseline to compare it with."
    if baseline is winner:
        return f"{lead}; no other trial is better than this preset."
    if evidence and evidence.lead is not None:
        return f"{lead},\n        {_lead(evidence, str(baseline.preset))}"
    gain = 100 * (winner.score - baseline.score)
    return (
        f"{lead},\n        {gain:+.2f} points over the best preset, "
        f"'{baseline.preset}' at {baseline.score:.4f} (one run each, on the validation images)."
    )


def _interval(evidence: Evidence) -> str:
    if evidence.low is None:
        return f"{evidence.mean:.4f} with a fresh seed"
    return f"{evidence.mean:.4f} (95 % interval {evidence.low:.4f} to {evidence.high:.4f})"


def _lead(evidence: Evidence, preset: str) -> str:
    assert evidence.lead is not None and evidence.preset_mean is not None
    text = (
        f"{100 * evidence.lead:+.2f} points over the best preset, "
        f"'{preset}' at {evidence.preset_mean:.4f}"
    )
    if evidence.lead_low is None or evidence.lead_high is None:
        return f"{text} (one fresh seed each, on the validation images)."
    chance = "" if evidence.lead_low > 0 else "; the difference may be chance"
    return (
        f"{text}\n        (paired t-test over {_fresh(evidence.seeds)} of {evidence.finalists} "
        f"finalists on the validation images: 95 % interval {100 * evidence.lead_low:+.2f} to "
        f"{100 * evidence.lead_high:+.2f} points, p = {evidence.p:.2g}){chance}."
    )


def _describe(record: TrialRecord) -> str:
    text = summary(record.settings)
    return f"{record.preset} (preset)" if record.preset else text
