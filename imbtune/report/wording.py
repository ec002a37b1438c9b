"""Numbers, differences and how a search ended, as the report's sentences write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imbtune.metrics.number_text import as_text
from imbtune.paths import folder_name
from imbtune.report.sections import FigureText
from imbtune.report.study_data import StudyData
from imbtune.study.evidence import Evidence
from imbtune.study.lock import Activity
from imbtune.study.records import ENDS, FAILED, OUT_OF_TIME

COMPARING = (  # figures that point out the winner
    *("recall_by_size", "recall_change", "confusion", "margins", "parts", "knobs", "parallel"),
    *("scores", "progress", "curves", "front"),
)
NO_WINNER = "Without finals, the winner and the best preset are those by the score of one run."


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number(value: float, digits: int = 3) -> str:
    """A score with so many decimals and, where it is negative, a true minus sign."""
    return as_text(value, f".{digits}f")


def corrected_words(evidence: Evidence) -> str:
    """What follows a winner's mean: `, corrected for the choice 0.781`; empty without it."""
    if evidence.mean_corrected is None:
        return ""
    corrected = number(evidence.mean_corrected)
    if corrected == number(evidence.mean):
        return ", also when corrected for the choice"
    return f", corrected for the choice {corrected}"


def renamed(name: str, path: str) -> str:
    """The name of a study's folder, if it is not the study's name any more; else empty."""
    folder = folder_name(path)
    return "" if folder == name else folder


def points(difference: float, is_share: bool = True) -> str:
    """A difference of scores with its sign: in percentage points, if they are shares."""
    return as_text(100 * difference, "+.1f") if is_share else as_text(difference, "+.3f")


def p_value(p: float) -> str:
    """`p = 0.21`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def shorter(name: str, letters: int = 18) -> str:
    """A name with `…` in its middle if it has more letters."""
    half = (letters - 1) // 2
    return name if len(name) <= letters else f"{name[:half]}…{name[-half:]}"


def duration(seconds: float) -> str:
    """`3 h 41 min`, `2.4 min`, `12 s`."""
    if seconds >= 86400:
        return f"{seconds / 3600:,.0f} h"
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def short(number: float) -> str:
    """`1.2 million`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,.0f}"


def texts_of(study: StudyData, texts: Sequence[FigureText]) -> list[FigureText]:
    """The figures' texts, with what they mean in this study alone.

    That is what the intervals of the finals count, and which trial is called the winner before the
    finals are complete.
    """
    more = {"finals": bars_of(study)}
    if study.winner is None:
        more |= dict.fromkeys(COMPARING, NO_WINNER)
    return [
        replace(text, reading=f"{text.reading} {more[text.name]}") if more.get(text.name) else text
        for text in texts
    ]


def finals_count_images(study: StudyData) -> bool:
    """Whether the finals have their scores by groups of images, so that intervals count them.

    Those of older versions have not.
    """
    column = "scores_without_groups"
    return column in study.finals and bool(study.finals[column].notna().all())


def bars_of(study: StudyData) -> str:
    """What the intervals of the finals' figure count, in sentences; empty where it has none."""
    seeds = study.finals["seed"].nunique()
    if seeds < 2:
        return ""
    if not finals_count_images(study):
        return (
            "The bar counts the fresh seeds alone, not the validation images, so it is too short "
            "(Student's t; the variance among the seeds is that of all finalists together). This "
            "study has not recorded what the images add."
        )
    text = (
        "The bar counts the fresh seeds and the validation images (Student's t; the variance among "
        "the seeds is that of all finalists together, the variance among the images each "
        "finalist's own). It is not corrected for the choice of the winner."
    )
    if study.evidence is not None and study.evidence.images:
        text += (
            " The winner's 95 % interval in the headline is another one: it is corrected, because "
            "the winner was chosen by these images and its mean is therefore likely too high."
        )
    return text


def not_complete(what: str, done: int, planned: int, activity: Activity) -> list[str]:
    """How many runs of an unfinished calibration or comparison have ended, and whether it runs.

    Args:
        what: "calibration" or "comparison".
    """
    left = f"{done} of {counted(planned, 'run')} {'has' if done == 1 else 'have'} ended"
    if activity.locked:
        return [f"The {what} is running: {left}."]
    if activity.locked is None:
        return [f"The {what} is not complete: {left}. Whether it runs cannot be seen here."]
    return [
        f"The {what} is not complete: {left}. It was interrupted, or runs have failed; the others "
        "are trained when it is resumed."
    ]


def not_ended(study: StudyData) -> str:
    """Why a search has not ended, as far as that is known, and how far it is."""
    done = f"{trials_done(study)} {'has' if study.done == 1 else 'have'} ended"
    if study.info.get("end"):
        return f"The search was interrupted: {done}."
    if study.is_running:
        runs = "is running"
        if study.started:
            runs = f"has been running since {study.started:%Y-%m-%d %H:%M} UTC"
        if study.planned and study.done >= study.planned:
            finals = counted(len(study.finals), "final run")
            ended = f"{finals} {'has' if len(study.finals) == 1 else 'have'} ended so far"
            done = f"all {counted(study.done, 'trial')} have ended, and the finals run ({ended})"
        return f"The search {runs}: {done}."
    if study.is_running is None:
        changed = study.activity.changed
        last = f"; its files last changed at {changed:%Y-%m-%d %H:%M} UTC" if changed else ""
        return (
            f"The search has not recorded its end: {done}. Whether it still runs cannot be seen "
            f"here, as this study has no lock{last}.{not_shown(study)}"
        )
    return (
        f"The search has not recorded its end, and no process of this machine works on it: {done}. "
        f"It was killed or its machine failed, unless it runs on another machine.{not_shown(study)}"
    )


def not_shown(study: StudyData) -> str:
    """How many trials are missing from the page, as a sentence after another one; else empty."""
    if not (missing := study.only_in_journal):
        return ""
    which = f"{missing} of these trials"
    if missing == study.done:
        which = "It" if missing == 1 else "They"
    is_one = missing == 1
    return (
        f" {which} {'is' if is_one else 'are'} only in the journal yet, and this page shows "
        f"{'it' if is_one else 'them'} after imbtune resume."
    )


def badly_ended(study: StudyData) -> list[str]:
    """How the search ended, where it trained less than it should."""
    if study.info.get("end") not in (FAILED, OUT_OF_TIME):
        return []
    return [f"The search ended because {ENDS[study.info['end']]}: {trials_done(study)} ended."]


def trials_done(study: StudyData) -> str:
    """`13 of 16 trials`; `16 trials` where all of them have ended."""
    if study.planned and study.done < study.planned:
        return f"{study.done} of {counted(study.planned, 'trial')}"
    return counted(study.done, "trial")


def provenance(
    path: str, info: Mapping[str, Any], objective: str, budgets: Sequence[int]
) -> list[tuple[str, str]]:
    """Where a study comes from: pairs of a heading and a text.

    Args:
        path: of the study. info: the content of study.yaml.
        objective: what was maximised, or by which rows are ranked.
        budgets: the rungs in epochs; empty where no trial could be stopped.
    """
    versions, data = info.get("versions"), info.get("data")
    recorded = info.get("space")
    space = recorded if isinstance(recorded, Mapping) else {}
    found = [
        ("command", info.get("command")),
        ("folder", path),
        ("started", info.get("started")),
        ("ended", info.get("ended")),
        ("how it ended", info.get("end")),
        ("space", ": ".join(str(space[key]) for key in ("name", "about") if space.get(key))),
        ("sampler", info.get("sampler") if budgets else None),
        ("seed", info.get("seed")),
        ("rungs, in epochs", ", ".join(map(str, budgets))),
        ("objective", objective),
        ("SHA-256 of the data", data.get("sha256") if isinstance(data, Mapping) else None),
    ]
    if isinstance(versions, Mapping):
        found.append(("versions", ", ".join(f"{name} {v}" for name, v in versions.items())))
    return [(heading, str(text)) for heading, text in found if text not in (None, "")]
