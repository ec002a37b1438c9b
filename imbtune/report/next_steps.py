"""The commands that a report gives to type next, and what they depend on."""

from __future__ import annotations

import shlex

from imbtune.report.frames.trial_frame import has_to_retry
from imbtune.report.missing import best_at_chance
from imbtune.report.study_data import StudyData
from imbtune.report.tested import FOLDER
from imbtune.storage import join
from imbtune.study.records import front_name


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
    if (tested := study.tested) is None:
        return []
    found, preset = [], baseline_preset(study)
    if preset is not None and preset not in tested.presets:
        seeds = max(score.seeds for score in tested.winner.values())
        options = ("--seeds", str(max(seeds, 2)), "--baselines", *tested.options)
        train = command("train", study.path, *options, "--out", f"{study.name}-tested")
        found = [
            (train, "tests winner, best preset and erm with the same seeds, and compares them")
        ]
    if tested.has_model:
        steps = model_steps(join(study.path, FOLDER))
        found += [(command(*words), what) for words, what in steps]
    return found


def model_steps(folder: str) -> list[tuple[list[str], str]]:
    """The commands for a trained model, each with what it does.

    Args:
        folder: of the model.
    """
    return [
        (
            ["predict", folder, "IMAGES", "--out", "predictions.parquet"],
            "predicts the classes of other images with the trained model",
        ),
        (["evaluate", folder, "--data", "FOLDER", "--split", "all"], "tests it on other images"),
        (["export", folder, "--to", "onnx"], "writes it for programs without imbtune"),
    ]


def trainings(study: StudyData) -> dict[int, list[str]]:
    """The command that trains a trial on all training data and tests it, by the trial's number.

    Only the winner and the trials of a Pareto front have a file with their configuration.
    """
    files = {n: join(study.path, front_name(n)) for n in study.front_files}
    if study.winner is not None:
        files[study.winner] = study.path
    return {n: ["imbtune", "train", file, "--seeds", "5"] for n, file in files.items()}


def baseline_preset(study: StudyData) -> str | None:
    """The name of the best preset; None without one, or where it is the winner."""
    if study.baseline is None or study.baseline == study.winner:
        return None
    names = study.trials.loc[study.trials["trial"] == study.baseline, "preset"].dropna()
    return str(names.iloc[0]) if len(names) else None


def command(*words: str) -> str:
    """A command of imbtune, quoted for a shell."""
    return shlex.join(["imbtune", *words])
