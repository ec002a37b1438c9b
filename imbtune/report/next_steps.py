"""The commands that a report gives to type next, and what they depend on."""

from __future__ import annotations

import shlex

from imbtune.report.frames.trial_frame import has_to_retry
from imbtune.report.missing import best_at_chance
from imbtune.report.study_data import StudyData


def next_steps(study: StudyData) -> list[tuple[str, str]]:
    """The commands to type next, each with what it does."""
    if study.is_running:
        return []
    if not study.has_ended:
        goes_on = "goes on with the search"
        if study.is_running is None:
            goes_on += "; only where no process works on it any more"
        return [(command("resume", study.path), goes_on)]
    if study.winner is None and not study.finished.empty:
        if best_at_chance(study) is not None or len(study.finals):
            return []  # there is no better one to confirm
        resume = command("resume", study.path, "--finals", "5")
        return [(resume, "trains the best trials again with fresh seeds, which confirms a winner")]
    if study.winner is None and has_to_retry(study):
        return [(command("resume", study.path, "--retry-failed"), "trains the failed trials again")]
    if study.winner is not None and study.tested is None:
        train = command("train", study.path, "--seeds", "5", "--baselines")
        return [(train, "trains winner, best preset and erm on all training data, and tests them")]
    preset = baseline_preset(study)
    if study.tested is not None and preset is not None and preset not in study.tested.presets:
        seeds = max(score.seeds for score in study.tested.winner.values())
        options = ("--seeds", str(max(seeds, 2)), "--baselines", "--out", f"{study.name}-tested")
        train = command("train", study.path, *options)
        return [(train, "tests winner, best preset and erm with the same seeds, and compares them")]
    return []


def baseline_preset(study: StudyData) -> str | None:
    """The name of the best preset; None without one, or where it is the winner."""
    if study.baseline is None or study.baseline == study.winner:
        return None
    names = study.trials.loc[study.trials["trial"] == study.baseline, "preset"].dropna()
    return str(names.iloc[0]) if len(names) else None


def command(*words: str) -> str:
    """A command of imbtune, quoted for a shell."""
    return shlex.join(["imbtune", *words])
