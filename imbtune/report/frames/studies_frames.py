"""Several studies side by side: a row per study, and the shared figures with a column `study`."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from imbtune.report.frames.finals_frames import finals_frame, recall_frame
from imbtune.report.frames.trial_frame import name_of, progress_frame
from imbtune.report.study_data import NothingToDrawError, StudyData, records
from imbtune.study.records import COMPLETE, FAIL, PRUNED


def labels_of(studies: Sequence[StudyData]) -> list[str]:
    """The name of each study; the path where two have one name."""
    names = [study.name for study in studies]
    return [s.path if names.count(s.name) > 1 else s.name for s in studies]


def studies_frame(studies: Sequence[StudyData]) -> pd.DataFrame:
    """A row per study.

    Columns: `study`, `data` (training images and classes), `objective`, `trials` (that have ended),
    `planned` (with how many it was started), `finished`, `stopped`, `failed`, `seconds` (training
    time of all runs, finals included), `wall_seconds` (from start to end; null where it is not
    recorded), `winner` (its trial), `method`, `mean`, `mean_corrected` (for the choice of the
    winner; `low` and `high` are the interval of that one where there is one), `low`, `high`,
    `seeds`, `preset`, `lead`, `lead_corrected`, `is_share` (whether scores are shares, so that the
    lead is told in points), `p`. Without finals, `winner` and `preset` are those by the score of
    one run, `mean` is that score and `seeds` 0; null where no trial has finished.
    """
    rows = []
    for study, label in zip(studies, labels_of(studies), strict=True):
        evidence = study.evidence
        best, mean = study.compared.get("winner"), evidence.mean if evidence else None
        preset = study.baseline
        if best is not None and evidence is None:
            row = records(study.finished[study.finished["trial"] == best])[0]
            mean = float(row["score"])
            preset = study.compared.get(
                "best preset", best if isinstance(row["preset"], str) else None
            )
        named = {r["trial"]: name_of(r) for r in records(study.trials)}
        rows.append(
            {
                "study": label,
                "data": f"{sum(study.counts):,} images, {len(study.counts)} classes",
                "objective": study.objective
                + (f", first of {len(study.objectives)}" if len(study.objectives) > 1 else ""),
                "trials": study.done,
                "planned": study.planned,
                "finished": study.count(COMPLETE),
                "stopped": study.count(PRUNED),
                "failed": study.count(FAIL),
                "seconds": study.training_seconds,
                "wall_seconds": study.wall_seconds,
                "winner": best,
                "method": named.get(best),
                "mean": mean,
                "mean_corrected": evidence.mean_corrected if evidence else None,
                "low": evidence.low if evidence else None,
                "high": evidence.high if evidence else None,
                "seeds": evidence.seeds if evidence else 0,
                "preset": named.get(preset),
                "lead": evidence.lead if evidence else None,
                "lead_corrected": evidence.lead_corrected if evidence else None,
                "is_share": study.is_share,
                "p": evidence.p if evidence else None,
            }
        )
    # of objects: a trial's number beside a study without one would become a float
    return pd.DataFrame(rows, dtype=object).where(lambda frame: frame.notna(), None)


def differences(studies: Sequence[StudyData]) -> list[str]:
    """What makes the scores of the studies incomparable, as sentences; empty where nothing does."""
    found = []
    if len(by_objective(studies)) > 1:
        named = "; ".join(by_objective(studies))
        found.append(
            f"The studies maximise different metrics ({named}), so their scores cannot be compared."
        )
    if len({study.data_hash for study in studies if study.data_hash}) > 1:
        found.append("The studies have different images, so their scores cannot be compared.")
    if len({study.budgets[-1] for study in studies if study.budgets}) > 1:
        found.append("The full budget of the studies differs in epochs.")
    return found


def by_objective(studies: Sequence[StudyData]) -> dict[str, list[str]]:
    """The names of the studies of each metric that was maximised, whose scores may share an axis.

    The keys are the metrics in words, with the studies where two metrics are called the same, as
    those with different costs are.
    """
    groups: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    for study, label in zip(studies, labels_of(studies), strict=True):
        metric = study.objectives[0].text() if study.objectives else ""
        groups.setdefault(metric, []).append(label)
        words[metric] = study.objective
    called = [*words.values()]
    return {
        words[metric]
        + (f" of {', '.join(names)}" if called.count(words[metric]) > 1 else ""): names
        for metric, names in groups.items()
    }


def why_no_test(studies: Sequence[StudyData]) -> str:
    """Why the finals are no test of one study's winner against another's, as a clause.

    The seeds of the finals follow from a study's seed, so studies of equal seed have the same ones.
    Even then the winners' scores are no fair test, since the winners were chosen by them. Empty
    where fewer than two studies have finals.
    """
    seeds = [frozenset(study.finals["seed"].astype(int)) for study in studies if len(study.finals)]
    if len(seeds) < 2:
        return ""
    if len(set(seeds)) == 1:
        about = "the finals of all have the same seeds"
    elif len(frozenset().union(*seeds)) < sum(map(len, seeds)):
        about = "some seeds of their finals differ"
    else:
        about = "the seeds of their finals differ"
    return f"each winner was chosen by these scores ({about})"


def shared_finals(studies: Sequence[StudyData]) -> pd.DataFrame:
    """The rows of `finals_frame` of each study's winner and best preset, with `study`.

    `label` is the study and the model.

    Raises:
        NothingToDrawError: no study has finals.
    """
    parts = []
    for study, label in zip(studies, labels_of(studies), strict=True):
        try:
            frame = finals_frame(study)
        except NothingToDrawError:
            continue
        kept = frame[frame["kind"].isin(["winner", "best preset"])]
        parts.append(
            kept.assign(study=label, label=label + ", " + kept["kind"] + ": " + kept["label"])
        )
    if not parts:
        raise NothingToDrawError("no run of the finals of any study has ended")
    return pd.concat(parts, ignore_index=True)


def shared_progress(studies: Sequence[StudyData]) -> pd.DataFrame:
    """The rows of `progress_frame` of each study, with `study`.

    Raises:
        NothingToDrawError: no trial of any study has finished.
    """
    parts = []
    for study, label in zip(studies, labels_of(studies), strict=True):
        try:
            parts.append(progress_frame(study).assign(study=label))
        except NothingToDrawError:
            continue
    if not parts:
        raise NothingToDrawError("no trial of any study has been trained to the full budget")
    return pd.concat(parts, ignore_index=True)


def shared_recall(studies: Sequence[StudyData]) -> pd.DataFrame:
    """The rows of `recall_frame` of each study's winner, with `study`.

    Raises:
        NothingToDrawError: the studies have other classes, or no trial has finished.
    """
    if len({tuple(study.classes) for study in studies}) > 1:
        raise NothingToDrawError("the studies have different classes")
    parts = []
    for study, label in zip(studies, labels_of(studies), strict=True):
        try:
            frame = recall_frame(study)
        except NothingToDrawError:
            continue
        parts.append(frame[frame["kind"] == "winner"].assign(study=label))
    if not parts:
        raise NothingToDrawError("no trial of any study has been trained to the full budget")
    return pd.concat(parts, ignore_index=True)
