"""Why something is not there, in one place: each answer is a clause without a full stop."""

from __future__ import annotations

from imbtune.report.study_data import StudyData
from imbtune.study.data_size import recorded_chance
from imbtune.study.evidence import finalists_of, is_above


def none_finished(study: StudyData) -> str:
    """That no trial has been trained to the full budget, of a study without one."""
    if study.has_ended:
        return "no trial was trained to the full budget"
    return "no trial has been trained to the full budget yet"


def no_finals(study: StudyData) -> str:
    """Why no run of the finals has ended, of a study without one."""
    if finals_asked(study) == 0:
        request = study.info.get("request")
        if isinstance(request, dict) and request.get("finals") is None:
            return "by default, a search of so few trials has no finals"
        return "the search was started without finals"
    if study.is_running:
        if study.planned is None or study.done < study.planned:
            return "the finals begin when all trials have ended"
        return "no run of the finals has ended yet"
    if not study.has_ended:
        return "the search has not come to its finals, or none of their runs has ended"
    if study.finished.empty:
        return none_finished(study)
    if best_at_chance(study) is not None:
        return "no trial is better than a model that predicts the same for every image"
    if finals_asked(study) is None:
        return "the study has no finals"
    return "no run of the finals was trained to its end"


def finals_asked(study: StudyData) -> int | None:
    """How many of the best trials the search is to train again; None where it is not recorded."""
    request = study.info.get("request")
    if not isinstance(request, dict) or study.planned is None:
        return None
    return finalists_of(study.planned, request.get("finals"), request.get("final_seeds", 1))


def best_at_chance(study: StudyData) -> float | None:
    """The score of a model that predicts the same for every image, if no trial has a better one.

    None where one is, where none has finished, and for a study that did not record its images.
    """
    if study.finished.empty:
        return None
    space, data = study.info.get("space"), study.info.get("data")
    if not isinstance(space, dict) or not isinstance(data, dict):
        return None
    chance = recorded_chance(space.get("objective"), data)
    return None if is_above(float(study.finished["score"].max()), chance) else chance
