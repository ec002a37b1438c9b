"""Prints how a search ended: the best trials, the winner, and what early stopping cost."""

from __future__ import annotations

import shlex

from rich.console import Console

from imbtune.cli.outcome.trials_table import described, fresh_seeds, trials_table, value_shown
from imbtune.cli.settings import NO_BREAK, print_text
from imbtune.final_training.train_input import default_out
from imbtune.metrics.metric import Metric
from imbtune.metrics.number_text import as_text
from imbtune.report.wording import duration
from imbtune.storage import join
from imbtune.study.evidence import FINALISTS, Evidence, is_above
from imbtune.study.hints import divergence_fix, free_folder, program, resume_command, retry_fix
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, ENDED, FAIL, PRUNED, TrialRecord, counted
from imbtune.study.uncertainty.odd_corrections import failed_runs_note, odd_corrections


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
        console.print(trials_table(outcome))
        print_text(_how_to_read(outcome), console)
        print_text(_comparison(outcome), console)
        if evidence := outcome.evidence:
            for note in filter(None, (odd_corrections(evidence, 4), failed_runs_note(evidence))):
                print_text(f"        {note}", console)
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
    best = max(never_pruned, key=_score)
    gain = _score(best) - max(map(_score, others))
    count = len(never_pruned)
    exempted = f"{count} trial{'s' * (count > 1)} that it would have stopped ran to the end"
    which = f"trial {best.number}" if count == 1 else f"the best of them, trial {best.number},"
    verdict = "it would have lost the best trial" if gain > 0 else "it lost no better trial"
    return (
        f"{text}  To see whether it loses good trials, {exempted}: {verdict}. Of one run each, "
        f"{which} scored {as_text(best.score)}, {outcome.request.space.objective.difference(gain)} "
        "compared with the best of the trials that it let finish."
    )


def _score(record: TrialRecord) -> float:
    """Of a trial that finished."""
    assert record.score is not None
    return record.score


def _no_winner(outcome: SearchOutcome) -> str:
    finished = [r for r in outcome.records if r.state == COMPLETE]
    if not finished:
        return f"No trial was trained to the full budget. {outcome.path} has the results so far."
    best = max(finished, key=_score)
    remedy = "Search with other settings, more epochs or more images."
    constant = f"a model that predicts the same for every image ({as_text(outcome.chance)})"
    if not is_above(_score(best), outcome.chance):
        return (
            f"No winner: the best trial, {best.number}, scores {as_text(best.score)}, no better "
            f"than {constant}. {remedy}"
        )
    found = (
        f"No winner: trial {best.number} has the best score of one run, {as_text(best.score)}, but "
    )
    if not outcome.finals:
        return f"{found}all runs with fresh seeds failed."
    return f"{found}no finalist's mean over the fresh seeds is better than {constant}. {remedy}"


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


def _comparison(outcome: SearchOutcome) -> str:
    winner, baseline, evidence = outcome.winner, outcome.baseline, outcome.evidence
    objective = outcome.request.space.objective
    assert winner and winner.score is not None
    lead = f"\nWinner: trial {winner.number}, {described(winner)}"
    lead += f" ({knobs}): " if (knobs := _searched_knobs(outcome, winner)) else ": "
    lead += _interval(evidence) if evidence else f"{as_text(winner.score)} in one run"
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
        f"'{baseline.preset}' at {as_text(baseline.score)} (one run each, on the "
        "validation images)."
        f"{after}"
    )


def _searched_knobs(outcome: SearchOutcome, record: TrialRecord) -> str:
    """The values of the searched knobs of a trial; empty for a preset, whose values are its own."""
    keys = (knob.key for knob in outcome.request.space.knobs if "." in knob.key)
    values = {key: record.settings[key] for key in keys if key in record.settings}
    if record.preset:
        return ""
    pairs = (f"{key}={value_shown(value, [value])}" for key, value in values.items())
    return " ".join(pair.replace(" ", NO_BREAK) for pair in pairs)


def _not_confirmed(outcome: SearchOutcome) -> str:
    """Why a winner without finals may not be the best."""
    finished = sum(record.state == COMPLETE for record in outcome.records)
    text = "Not confirmed: no trial was trained again with fresh seeds, and "
    many = f"the highest of {finished} scores is partly luck."
    text += many if finished > 1 else "one score says little."
    if outcome.interrupted and outcome.request.finalists:
        text += " The resumed search does it at its end."
    return text


def _interval(evidence: Evidence) -> str:
    if evidence.low is None:
        return f"{as_text(evidence.mean)} with a fresh seed"
    interval = f"95 % interval {as_text(evidence.low)} to {as_text(evidence.high)}"
    if evidence.mean_corrected is None:
        return f"{as_text(evidence.mean)}, the mean of {fresh_seeds(evidence.seeds)} ({interval})"
    return (
        f"{as_text(evidence.mean)}, the mean of {fresh_seeds(evidence.seeds)}; corrected for the "
        f"choice of the best {as_text(evidence.mean_corrected)} ({interval})"
    )


def _lead(evidence: Evidence, preset: str, objective: Metric) -> str:
    assert evidence.lead is not None and evidence.preset_mean is not None
    text = f"{objective.difference(evidence.lead)} over the best preset, "
    text += f"'{preset}' at {as_text(evidence.preset_mean)}"
    if evidence.lead_low is None or evidence.lead_high is None:
        return f"{text} (one fresh seed each, on the validation images)."
    chance = "" if evidence.is_better else "; the difference may be chance"
    low, high = map(objective.difference, (evidence.lead_low, evidence.lead_high))
    result = f"95 % interval {low.removesuffix(' points')} to {high}, p = {evidence.p:.2g}"
    if evidence.lead_corrected is None:
        return (
            f"{text}\n        (paired t-test over {fresh_seeds(evidence.seeds)} of "
            f"{evidence.finalists} finalists, which counts the seeds alone and not the images: "
            f"{result}){chance}."
        )
    corrected = objective.difference(evidence.lead_corrected)
    return (
        f"{text};\n        corrected for the choice {corrected} "
        f"({result}; paired over {fresh_seeds(evidence.seeds)} and the validation images)"
        f"{chance}."
    )


def _front(outcome: SearchOutcome) -> str:
    """The Pareto front, a line per trial, and how to train one of them."""
    records = {record.number: record for record in outcome.records}
    objectives = outcome.objectives
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
        lines.append(f"  {found.trial:>5}  {scores}  {described(records[found.trial])}")
    another = shlex.quote(join(outcome.path, outcome.front[-1].file))
    others = f". To train another one: {program()} train {another}"
    last = others if len(outcome.front) > 1 else f", and by {' and '.join(names[1:])}, too."
    return "\n".join(["", *lines, f"The winner is the best by {names[0]}{last}"])
