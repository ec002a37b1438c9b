"""What to look at before believing a search's result, in sentences."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from imbtune.report.frames.trial_frame import failed_for_good, failure_frame, progress_frame
from imbtune.report.study_data import COMPLEMENT, LINEAR, LOG, NothingToDrawError, StudyData
from imbtune.report.wording import badly_ended, counted, not_ended

LATE = 0.8  # share of the finished trials; a best score that rises after it is a late one
EDGE = 0.02  # share of a searched range that counts as its end


def warnings_of(study: StudyData) -> list[str]:
    """What to look at before believing the result, as sentences."""
    found = []
    if not study.has_ended:
        found.append(not_ended(study))
    found += badly_ended(study)
    if failed := len(failed_for_good(study)):
        most = failure_frame(study)
        cause = f": {most['error'].iloc[0]}" if len(most) else ""
        found.append(
            f"{counted(failed, 'trial')} failed{'' if failed == 1 else ', most of them'}{cause}"
        )
    found += _late(study) + _edges(study)
    if 0 in study.validation_counts:
        none = sum(count == 0 for count in study.validation_counts)
        found.append(f"{counted(none, 'class', 'classes')} had no validation image.")
    return found


def _late(study: StudyData) -> list[str]:
    try:
        best = progress_frame(study)["best"]
    except NothingToDrawError:
        return []
    at = int(len(best) * LATE)
    if len(best) >= 20 and best.iloc[-1] > best.iloc[max(0, at - 1)]:
        return [
            "The best score of one run still rose in the last fifth of the finished trials: more "
            "trials may find a better one."
        ]
    return []


def _edges(study: StudyData) -> list[str]:
    """The searched numbers of the winner that are at an end of their range."""
    rows = study.trials[study.trials["trial"] == study.winner]
    section = study.info.get("space")
    described = section.get("knobs") if isinstance(section, dict) else None
    if rows.empty or not isinstance(described, dict):
        return []
    if isinstance(rows["preset"].iloc[0], str):
        return []  # a preset's values are not chosen by the search
    found = []
    for knob in study.knobs:
        match = re.match(r"(\S+) to ([^\s,]+)", str(described.get(knob.name, "")))
        value = rows[knob.name].iloc[0]
        if not match or pd.isna(value) or knob.scale not in (LINEAR, LOG, COMPLEMENT):
            continue
        ends = [_scaled(float(end), knob.scale) for end in match.groups()]
        at = _scaled(float(value), knob.scale)
        near = min(abs(at - end) for end in ends) <= EDGE * abs(ends[1] - ends[0])
        if near and ends[0] != ends[1]:
            found.append(
                f"The winner's {knob.name}, {value:.4g}, is at an end of its range "
                f"({match[1]} to {match[2]}): a wider range may be better."
            )
    return found


def _scaled(value: float, scale: str) -> float:
    if scale == COMPLEMENT:
        return float(-np.log(max(1 - value, 1e-300)))
    return float(np.log(max(value, 1e-300))) if scale == LOG else value
