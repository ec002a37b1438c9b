"""The report in sentences: what won, whether to believe it, what it cost, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from imbtune.report.first_screen.warnings import warnings_of
from imbtune.report.frames.finals_frames import class_frame
from imbtune.report.frames.trial_frame import failure_frame, name_of, parts_of
from imbtune.report.missing import best_at_chance, no_finals, none_finished
from imbtune.report.next_steps import baseline_preset, next_steps
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.report.wording import (
    corrected_words,
    counted,
    duration,
    not_shown,
    number,
    p_value,
    points,
    short,
    shorter,
    trials_done,
)
from imbtune.study.evidence import Evidence
from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED
from imbtune.study.uncertainty.odd_corrections import failed_runs_note, odd_corrections

BETTER, MAY_BE_CHANCE, PRESET_WINS, NO_PRESET = "better", "chance", "preset", "alone"
UNCONFIRMED, NOTHING = "unconfirmed", "nothing"


@dataclass(frozen=True)
class Story:
    """What the first screen says.

    Attributes:
        verdict: one of the constants of this module, for the colour of the badge.
        badge: the verdict in a few words.
        headline: who won, with which score.
        lead: how far it is ahead, and whether that may be chance.
        doubt: what the figures do not say.
        facts: counts and costs, each a heading and a text.
        warnings: what to look at before believing the result.
        steps: the next commands, each with what it does.
    """

    verdict: str
    badge: str
    headline: str
    lead: str = ""
    doubt: str = ""
    facts: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    steps: Sequence[tuple[str, str]] = field(default_factory=list)


def story_of(study: StudyData) -> Story:
    """The first screen of a study's report."""
    told = _confirmed(study) if study.evidence is not None else _unconfirmed(study)
    verdict, badge, headline, lead, doubt = told
    return Story(
        verdict, badge, headline, lead, doubt, facts(study), warnings_of(study), next_steps(study)
    )


def _confirmed(study: StudyData) -> tuple[str, str, str, str, str]:
    evidence, winner = study.evidence, study.winner
    assert evidence is not None and winner is not None
    score = number(evidence.mean)
    score += corrected_words(evidence)
    corrected = evidence.mean_corrected
    if evidence.low is not None and evidence.high is not None:
        score += f" (95 % interval {number(evidence.low)} to {number(evidence.high)})"
    headline = f"Trial {winner} has the best {study.objective}: {score}."
    method = _method(study, winner)
    if len(study.objectives) > 1:
        method += (
            f" {study.objectives[0].words().capitalize()} is the first of {len(study.objectives)} "
            "objectives: the Pareto front below has the others, and front-N.yaml the configuration "
            "of its trial N."
        )
    verdict, badge, lead = _lead(study, evidence)
    doubt = f"Mean of {counted(evidence.seeds, 'fresh seed')} on the validation images. "
    if corrected is not None:
        likely = "could be" if number(corrected) == number(evidence.mean) else "is likely"
        doubt += (
            "The winner was chosen by these images, among all finished trials, so this mean "
            f"{likely} too high: hence the correction. "
            f"{odd_corrections(evidence, 3)} Intervals and p count the seeds, the validation "
            "images and the choice of the winner. "
        ).replace("  ", " ")
    else:
        doubt += (
            f"The winner was chosen as the best of {counted(evidence.finalists, 'finalist')} by "
            "these same runs, so this mean is too high. "
        )
        if evidence.p is not None:
            doubt += "Intervals and p count the seeds alone, not the images: they are too sure. "
    lead = f"{method} {lead}{_largest_change(study)}"
    doubt = " ".join(filter(None, (doubt.strip(), failed_runs_note(evidence), _tested(study))))
    return verdict, badge, headline, lead, doubt


def _largest_change(study: StudyData) -> str:
    """The class whose recall differs most from that of the best preset, as a sentence."""
    try:
        frame = class_frame(study)
    except NothingToDrawError:
        return ""
    rows = [row for row in records(frame) if pd.notna(row["change"])]
    row = max(rows, key=lambda row: abs(row["change"]), default=None)
    if row is None or not row["change"]:
        return ""
    images = counted(int(row["images"]), "training image")
    return (
        f" The largest change of recall is {points(float(row['change']))} points, of class "
        f"{shorter(str(row['class']), 40)} ({images})."
    )


def _method(study: StudyData, trial: int) -> str:
    """What a trial trains, as a sentence."""
    rows = records(study.trials[study.trials["trial"] == trial])
    if not rows:
        return ""
    if isinstance(rows[0]["preset"], str):
        return f"It is the preset {rows[0]['preset']}."
    return f"It trains with {parts_of(rows[0])}."


def _called(study: StudyData, trial: int) -> str:
    """`smote (trial 3)`."""
    rows = records(study.trials[study.trials["trial"] == trial])
    return f"{name_of(rows[0])} (trial {trial})" if rows else f"trial {trial}"


def _lead(study: StudyData, evidence: Evidence) -> tuple[str, str, str]:
    if study.baseline is not None and study.baseline == study.winner:
        text = "No other finalist had a better mean."
        return PRESET_WINS, "A preset is best", text
    if evidence.lead is None or study.baseline is None:
        text = "No preset from the literature was in the finals to compare it with."
        return NO_PRESET, "No preset to compare with", text
    preset = _called(study, study.baseline)
    share = study.is_share
    unit = " points" if share else ""
    ahead = f"{100 * evidence.lead:.1f}{unit}" if share else f"{evidence.lead:.3f}"
    lead = f"It is {ahead} ahead of the best preset, {preset}"
    if evidence.p is None or evidence.lead_low is None or evidence.lead_high is None:
        text = f"{lead}. With one seed each, that may be chance."
        return MAY_BE_CHANCE, "The lead may be chance", text
    if evidence.lead_corrected is not None:
        corrected = points(evidence.lead_corrected, share)
        lead += f", {corrected}{unit} when corrected for the choice of the winner"
    lead += (
        f" (95 % interval {points(evidence.lead_low, share)} to "
        f"{points(evidence.lead_high, share)}{unit}, "
        f"{p_value(evidence.p)})"
    )
    if evidence.is_better:
        return BETTER, "Better than the best preset", f"{lead}. That is unlikely to be chance."
    return MAY_BE_CHANCE, "The lead may be chance", f"{lead}. That may be chance."


def _unconfirmed(study: StudyData) -> tuple[str, str, str, str, str]:
    finished = study.finished.sort_values(["score", "trial"], ascending=[False, True])
    if finished.empty:
        return NOTHING, "No result yet", *_nothing(study), ""
    best = finished.iloc[0]
    if study.has_ended and (len(study.finals) or best_at_chance(study) is not None):
        return NOTHING, "No winner", *_no_winner(study, best), ""
    headline = (
        f"Trial {int(best['trial'])} has the best {study.objective} of one run: "
        f"{number(best['score'])}."
    )
    several = f"The highest of {len(finished)} scores is partly luck: "
    lead = several if len(finished) > 1 else "One score says little: "
    if study.finals.empty:
        lead += f"no trial has been trained again with fresh seeds ({no_finals(study)})."
    else:
        lead += "the finals, which train the best trials again with fresh seeds, are not complete."
    lead = f"{_method(study, int(best['trial']))} {lead}"
    presets = finished[finished["preset"].notna()]
    doubt = "No preset from the literature has finished."
    if len(presets) and int(presets["trial"].iloc[0]) != int(best["trial"]):
        preset = presets.iloc[0]
        called = _called(study, int(preset["trial"]))
        doubt = f"The best preset, {called}, had {number(preset['score'])}."
    elif len(presets):
        doubt = ""
    doubt = f"{doubt} All of this is on validation images.".strip()
    return UNCONFIRMED, "Not confirmed", headline, lead, doubt


def _no_winner(study: StudyData, best: pd.Series) -> tuple[str, str]:
    """Why a search with finished trials has no winner, and what to do."""
    score = f"The best trial, {int(best['trial'])}, has {number(best['score'])} in one run"
    if (chance := best_at_chance(study)) is None:
        return "No winner.", (
            f"{score}, but no finalist's mean over the fresh seeds is better than that of a "
            "model that predicts the same for every image. Search with other settings, more "
            "epochs or more images."
        )
    return "No winner: no trial is better than a model that predicts the same for every image.", (
        f"{score}, and such a model {number(chance)}. Search with other settings, more epochs or "
        "more images."
    )


def _nothing(study: StudyData) -> tuple[str, str]:
    trials = study.trials
    if trials.empty and study.done:
        ended = f"{trials_done(study)} {'has' if study.done == 1 else 'have'} ended."
        return "No result can be shown yet.", f"{ended}{not_shown(study)}"
    if trials.empty:
        return "No trial has ended yet.", "The report shows more once trials have ended."
    failures = failure_frame(study)
    interrupted = study.count(STOPPED)
    if len(failures) and study.count(FAIL) == len(trials) - interrupted:
        most = failures.iloc[0]
        text = f"The most frequent error, in {counted(most['trials'], 'trial')}: {most['error']}"
        which = f"{study.count(FAIL)} trials{' that ended' * bool(interrupted)}"
        return f"All {which} failed.", text
    scored = trials[trials["score"].notna()].sort_values(["budget", "score"], ascending=False)
    headline = f"{none_finished(study).capitalize()}."
    if scored.empty:
        return headline, f"{counted(study.done, 'trial')} ended without reaching a rung."
    best = scored.iloc[0]
    return headline, (
        f"The best at {best['budget']} epochs is {_called(study, int(best['trial']))}: "
        f"{number(best['score'])}."
    )


def _tested(study: StudyData) -> str:
    metric = study.objective_column
    if study.tested is None or metric not in study.tested.winner:
        return "Not tested yet: all of this is on validation images."
    own = study.tested.winner[metric]
    how = "one seed" if own.seeds == 1 else f"mean ± standard deviation of {own.seeds} seeds"
    if study.tested.options:
        how += f"; trained with {' '.join(study.tested.options)}"
    name = metric.replace("_", " ")
    text = f"On the test set ({name}, {how}): {own} for the winner"
    preset = baseline_preset(study)
    if preset is None:
        return f"{text}."
    other = study.tested.presets.get(preset, {}).get(metric)
    if other is None:
        return f"{text}; the best preset, {preset}, has not been tested."
    seeds = "" if other.seeds == own.seeds else f" ({counted(other.seeds, 'seed')})"
    return f"{text}, {other}{seeds} for the best preset, {preset}."


def facts(study: StudyData) -> list[tuple[str, str]]:
    """Counts and costs, as pairs of a heading and a text."""
    total = f" of {study.planned}" if study.planned and study.planned > study.done else ""
    found = [("trials", f"{study.done}{total}")]
    words = {COMPLETE: "finished", PRUNED: "stopped early", FAIL: "failed", STOPPED: "interrupted"}
    found += [
        (word, str(study.count(state))) for state, word in words.items() if study.count(state)
    ]
    if len(study.finals):
        runs = f"{study.finals['trial'].nunique()} × {study.finals['seed'].nunique()}"
        found.append(("finals: trials × seeds", runs))
    if seconds := study.training_seconds:
        found.append(("training time, all runs", duration(seconds)))
    if (wall := study.wall_seconds) is not None:
        found.append(("wall time", duration(wall)))
    images = float(study.trials["images"].sum()) + float(study.finals["images"].sum())
    if images:
        found.append(("image passes", short(images)))
    if study.counts:
        most, least = max(study.counts), min(study.counts)
        found.append((f"classes, {most:,} to {least:,} images", str(len(study.counts))))
    return found
