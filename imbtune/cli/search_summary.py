"""Prints how a search ended: the best trials, the winner, and what early stopping cost."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from imbtune.cli.settings import NO_BREAK, print_text
from imbtune.final_training.train_input import default_out
from imbtune.metrics.metric import Metric
from imbtune.registry import Value
from imbtune.report.wording import duration
from imbtune.storage import join
from imbtune.study.evidence import FINALISTS, Evidence, is_above, scores_by_trial
from imbtune.study.hints import divergence_fix, free_folder, program, resume_command, retry_fix
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, ENDED, FAIL, PRUNED, TrialRecord, counted, summary
from imbtune.study.uncertainty.odd_corrections import odd_corrections

SHOWN = 5  # trials in the table, if there are no more finalists


def print_outcome(outcome: SearchOutcome, console: Console) -> None:
    """Print the best trials, the winner compared with the best preset, and the next command."""
    request = outcome.request
    ended, counts = counted(outcome.records)
    done = f"{ended} of {request.trials} trials{' and the finals' if outcome.finals else ''}"
    done += "" if outcome.seconds is None else f" in {duration(outcome.seconds)} of wall time"
    console.print(f"\n{'Interrupted after ' if outcome.interrupted else ''}{done}: {counts}")
    if stopping := stopping_line(outcome):
        print_text(stopping, console)
    if outcome.dropped:
        numbers = ", ".join(map(str, outcome.dropped))
        print_text(
            f"Left out of the finals, because one of their runs failed: trial {numbers}", console
        )
        console.print(
            f"  To train the failed runs again: {resume_command(outcome.path)}", soft_wrap=True
        )
    if outcome.winner:
        console.print(_table(outcome))
        print_text(_how_to_read(outcome), console)
        print_text(_comparison(outcome), console)
        if outcome.evidence and (odd := odd_corrections(outcome.evidence, 4)):
            print_text(f"        {odd}", console)
        if outcome.front:
            print_text(_front(outcome), console)
    else:
        print_text(_no_winner(outcome), console)
    if failure := outcome.common_failure():
        print_text(f"\n{failure}", console)
        fix = divergence_fix(request, False) if failure.has_diverged else retry_fix(request)
        console.print(f"  Remedy: {fix}", soft_wrap=True, markup=False, highlight=False)
    if ended < request.trials or outcome.interrupted:
        why = "Next" if outcome.interrupted else "The time budget is used up"
        console.print(f"\n{why}: to resume the search:")
        console.print(f"  {resume_command(outcome.path)}", soft_wrap=True)
    if outcome.interrupted or not outcome.winner:
        return
    if not outcome.evidence:
        console.print("\nNext: confirm it, by training the best trials again with fresh seeds:")
        console.print(f"  {resume_command(outcome.path, finals=FINALISTS)}", soft_wrap=True)
        return
    best = join(outcome.path, "best.yaml")
    out = default_out(best)
    words = [program(), "train", best, "--seeds", "5"]
    words += [] if free_folder(out) == out else ["--out", str(free_folder(out))]
    words += ["--data", str(request.data)] if request.data else []
    words += ["--skip-corrupt"] if request.skip_corrupt else []
    console.print("\nNext: train it on all training data and test it once, with fresh seeds:")
    console.print(f"  {shlex.join(words)}", soft_wrap=True)
    if others := _baselines(outcome):
        console.print(f"To train {others} as well: add --baselines")


def _baselines(outcome: SearchOutcome) -> str:
    """What `imbtune train --baselines` trains beside the winner; empty if nothing."""
    winner, best = outcome.winner, outcome.baseline
    kinds = []
    if best is not None and best is not winner and best.preset != "erm":
        kinds.append("the best preset")
    if winner is None or winner.preset != "erm":
        kinds.append("plain cross-entropy")
    return " and ".join(kinds)


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
    failed = any(r.state == FAIL for r in outcome.records)
    whole = "the image passes that training every trial to the end takes"
    whole += f"{', not counting failed trials' * failed}.\n"
    text = f"Early stopping saved {1 - share:.0%} of {whole}"
    if share >= 1:
        text = f"Early stopping saved nothing: with rungs, the trials took {share:.0%} of {whole}"
    if not never_pruned:
        return (
            f"{text}  No stopped trial was trained to the end anyway, so this search does not show "
            "whether early stopping lost a good one."
        )
    best = max(never_pruned, key=lambda r: r.score or 0.0)
    gain = (best.score or 0.0) - max(r.score or 0.0 for r in others)
    count = len(never_pruned)
    exempted = f"{count} trial{'s' * (count > 1)} that it would have stopped ran to the end"
    which = f"trial {best.number}" if count == 1 else f"the best of them, trial {best.number},"
    verdict = "it would have lost the best trial" if gain > 0 else "it lost no better trial"
    return (
        f"{text}  To see whether it loses good trials, {exempted}: {verdict}. Of one run each, "
        f"{which} scored {best.score:.4f}, {outcome.request.space.objective.difference(gain)} "
        "compared with the best of the trials that it let finish."
    )


def _no_winner(outcome: SearchOutcome) -> str:
    finished = [r for r in outcome.records if r.state == COMPLETE]
    if not finished:
        return f"No trial was trained to the full budget. {outcome.path} has the results so far."
    best = max(finished, key=lambda r: r.score or 0.0)
    if best.score is not None and is_above(best.score, outcome.chance):
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
    objectives = outcome.request.space.objectives
    table = Table(
        title=f"best finished trials, by {objectives[0]} on validation images",
        box=box.SIMPLE_HEAD,  # without vertical lines, the configurations fit into 80 columns
    )
    table.add_column("trial", justify="right")
    if finals:
        seeds = len(next(iter(finals.values())))
        heading = f"mean{' ± std' * (seeds > 1)} of\n{_fresh(seeds)}"
        table.add_column(heading, justify="right", min_width=len(_mean_and_std(np.zeros(seeds))))
    others = [metric.name for metric in objectives[1:]] or ["worst_class"]
    lower = ["\n(lower is\nbetter)" * (metric.sign < 0) for metric in objectives[1:]] or [""]
    named = [f"{n.replace('_', chr(10))}{low}" for n, low in zip(others, lower, strict=True)]
    for heading in ("score,\none run", *named):
        table.add_column(heading, justify="right", min_width=len("0.0000"))
    table.add_column("configuration", overflow="fold")
    shown = _shown(outcome)
    for record, configuration in zip(shown, _told_apart(shown), strict=True):
        cells = [str(record.number)]
        if finals:
            scores = finals.get(record.number)
            cells.append("" if scores is None else _mean_and_std(scores))
        cells += [f"{value:.4f}" for value in (record.score, *map(record.metrics.get, others))]
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
    texts = [_describe(record) for record in records]
    found = []
    for record, text in zip(records, texts, strict=True):
        alike = [r for r, other in zip(records, texts, strict=True) if other == text]
        keys = dict.fromkeys(key for r in alike for key in r.settings)
        differ = [k for k in keys if len({r.settings.get(k) for r in alike}) > 1 and k != "seed"]
        differ = differ or (["seed"] if len(alike) > 1 else [])
        values = [
            f"{key}={_value(record.settings[key], [r.settings.get(key) for r in alike])}"
            for key in differ
            if key in record.settings
        ]
        found.append(": ".join([text, " ".join(values)]) if values else text)
    return found


def _value(value: Value, others: Sequence[Value | None]) -> str:
    """A number with three significant digits, or all if it would look like another one."""
    if not isinstance(value, float):
        return str(value)
    short = {f"{other:.3g}" for other in {*others} if isinstance(other, float)}
    distinct = len({other for other in others if isinstance(other, float)})
    return f"{value:.3g}" if len(short) == distinct else str(value)


def _how_to_read(outcome: SearchOutcome) -> str:
    """Which number of the table to report."""
    finished = [r.rungs[-1] for r in outcome.records if r.state == COMPLETE]
    error = max(finished, key=lambda rung: rung.score).score_error
    exact = f" The best one has a standard error of {error:.4f} from the images." if error else ""
    if not outcome.evidence:
        return f"score: of one run, on the validation images.{exact}"
    several = outcome.evidence.seeds > 1
    honest = "mean of the fresh seeds" if several else "score with the fresh seed"
    honest = "corrected mean and its interval" if outcome.evidence.images else honest
    return (
        "score: of one run, by which the finalists were chosen, so it is partly luck. Of this "
        f"search, report the {honest}; best of all, the test set (the next command).{exact}"
    )


def _fresh(seeds: int) -> str:
    return f"{seeds} fresh seed{'s' * (seeds > 1)}"


def _mean_and_std(scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    spread = f" ± {scores.std(ddof=1):.4f}" if len(scores) > 1 else ""
    return f"{scores.mean():.4f}{spread}"


def _comparison(outcome: SearchOutcome) -> str:
    winner, baseline, evidence = outcome.winner, outcome.baseline, outcome.evidence
    objective = outcome.request.space.objective
    assert winner and winner.score is not None
    lead = f"\nWinner: trial {winner.number}, {_describe(winner)}"
    lead += f" ({knobs}): " if (knobs := _searched_knobs(outcome, winner)) else ": "
    lead += _interval(evidence) if evidence else f"{winner.score:.4f} in one run"
    after = "" if evidence else f"\n        {_not_confirmed(outcome)}"
    if not baseline or baseline.score is None:
        why = "no preset lies inside the space"
        if outcome.request.space.presets():
            finished = any(r.preset and r.state == COMPLETE for r in outcome.records)
            why = "the finals of the best preset failed" if finished else "no preset finished"
        return f"{lead}; {why}, so there is no baseline to compare it with.{after}"
    if baseline is winner:
        return f"{lead}; no other trial is better than this preset.{after}"
    if evidence and evidence.lead is not None:
        return f"{lead},\n        {_lead(evidence, str(baseline.preset), objective)}"
    gain = objective.difference(winner.score - baseline.score)
    return (
        f"{lead},\n        {gain} over the best preset, "
        f"'{baseline.preset}' at {baseline.score:.4f} (one run each, on the validation images)."
        f"{after}"
    )


def _searched_knobs(outcome: SearchOutcome, record: TrialRecord) -> str:
    """The values of the searched knobs of a trial; empty for a preset, whose values are its own."""
    keys = (knob.key for knob in outcome.request.space.knobs if "." in knob.key)
    values = {key: record.settings[key] for key in keys if key in record.settings}
    if record.preset:
        return ""
    pairs = (f"{key}={_value(value, [value])}" for key, value in values.items())
    return " ".join(pair.replace(" ", NO_BREAK) for pair in pairs)


def _not_confirmed(outcome: SearchOutcome) -> str:
    """Why a winner without finals may not be the best."""
    finished = sum(record.state == COMPLETE for record in outcome.records)
    text = "Not confirmed: no trial was trained again with fresh seeds, and the highest of "
    text += f"{finished} scores is partly luck." if finished > 1 else "one score says little."
    if outcome.interrupted and outcome.request.finalists:
        text += " The resumed search does it at its end."
    return text


def _interval(evidence: Evidence) -> str:
    if evidence.low is None:
        return f"{evidence.mean:.4f} with a fresh seed"
    interval = f"95 % interval {evidence.low:.4f} to {evidence.high:.4f}"
    if evidence.mean_corrected is None:
        return f"{evidence.mean:.4f}, the mean of {_fresh(evidence.seeds)} ({interval})"
    return (
        f"{evidence.mean:.4f}, the mean of {_fresh(evidence.seeds)}; corrected for the choice of "
        f"the best {evidence.mean_corrected:.4f} ({interval})"
    )


def _lead(evidence: Evidence, preset: str, objective: Metric) -> str:
    assert evidence.lead is not None and evidence.preset_mean is not None
    text = f"{objective.difference(evidence.lead)} over the best preset, "
    text += f"'{preset}' at {evidence.preset_mean:.4f}"
    if evidence.lead_low is None or evidence.lead_high is None:
        return f"{text} (one fresh seed each, on the validation images)."
    chance = "" if evidence.lead_low > 0 else "; the difference may be chance"
    low, high = map(objective.difference, (evidence.lead_low, evidence.lead_high))
    result = f"95 % interval {low.removesuffix(' points')} to {high}, p = {evidence.p:.2g}"
    if evidence.lead_corrected is None:
        return (
            f"{text}\n        (paired t-test over {_fresh(evidence.seeds)} of {evidence.finalists} "
            f"finalists, which counts the seeds alone and not the images: {result}){chance}."
        )
    corrected = objective.difference(evidence.lead_corrected)
    return (
        f"{text};\n        corrected for the choice {corrected} "
        f"({result}; paired over {_fresh(evidence.seeds)} and the validation images)"
        f"{chance}."
    )


def _front(outcome: SearchOutcome) -> str:
    """The Pareto front, a line per trial, and how to train one of them."""
    records = {record.number: record for record in outcome.records}
    objectives = outcome.request.space.objectives
    measure = "means of the fresh seeds" if outcome.finals else "one run"
    names = [m.words(False) + " (lower is better)" * (m.sign < 0) for m in objectives]
    lines = [
        f"Pareto front, {measure}: no trial is at least as good as one of these in every objective "
        "and better in one.",
        "  trial  " + "  ".join(names),
    ]
    for found in outcome.front:
        scores = "  ".join(
            f"{m.sign * score:>{len(name)}.4f}"
            for m, name, score in zip(objectives, names, found.scores, strict=True)
        )
        lines.append(f"  {found.trial:>5}  {scores}  {_describe(records[found.trial])}")
    another = shlex.quote(join(outcome.path, outcome.front[-1].file))
    others = f". To train another one: {program()} train {another}"
    last = others if len(outcome.front) > 1 else f", and by {' and '.join(names[1:])}, too."
    return "\n".join(["", *lines, f"The winner is the best by {names[0]}{last}"])


def _describe(record: TrialRecord) -> str:
    return f"{record.preset} (preset)" if record.preset else summary(record.settings)
