"""Where a trained configuration comes from, in one sentence of its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from imbtune.metrics.metric import Metric, objectives_of
from imbtune.metrics.predictions import ClassCounts

SEARCHED = "searched"  # objectives of the search, where the training was given others

# Of a file that an earlier version wrote, or whose record was edited
LOST = "the file does not record the chosen settings, so whether these are those is not known"


def origin_in_words(provenance: Mapping[str, Any], counts: ClassCounts) -> str:
    """What a configuration is: a search's choice, one of its trials, a preset, a file or changed.

    Args:
        provenance: of the training, as `metrics.json` has it.
        counts: names the classes in the titles of metrics.
    """
    changed = ", ".join(f"`{_code(change)}`" for change in provenance.get("changed", ()))
    if "scores" in provenance:
        return _of_front(provenance, changed, counts)
    if "winner" in provenance:
        chosen = _chosen(provenance, counts)
        if provenance.get("unrecorded"):
            by = f", changed by {changed}" if changed else ""
            return f"It is from the file of a search's choice {chosen}{by}; {LOST}."
        if not changed:
            return f"It was chosen {chosen}."
        return (
            f"A search chose a configuration {chosen}; this is that one changed by {changed}, "
            "which no search has chosen."
        )
    no_choice = ""  # a file may be the choice of a search that it does not name
    if isinstance(trial := provenance.get("trial"), int):
        what = f"trial {trial} of a search, which is not its winner"
        no_choice = "; no search has chosen it"
    elif preset := provenance.get("preset"):
        what, no_choice = f"the preset `{_code(preset)}`", "; no search has chosen it"
    elif file := provenance.get("file"):
        what = f"the configuration of the file `{_code(PurePosixPath(str(file)).name)}`"
    else:
        what = "a configuration that was given in Python"
    changes = f", changed by {changed}" if changed else ""
    return f"It is {what}{changes}{no_choice}."


def _of_front(provenance: Mapping[str, Any], changed: str, counts: ClassCounts) -> str:
    """A search finds the front, and its user chooses among the trials of it."""
    trial = provenance.get("trial")
    number = trial.get("trial") if isinstance(trial, dict) else None
    name = "a trial" if number is None else f"trial {_code(number)}"
    titles, lower = _objectives(provenance, counts)
    of_titles = f" of {' and '.join(titles)}{lower}" if titles else ""
    what = f"{name} of a search's Pareto front{of_titles}"
    if provenance.get("unrecorded"):
        by = f", changed by {changed}" if changed else ""
        return f"It is from the file of {what}{by}; {LOST}."
    if changed:
        return f"It is {what}, changed by {changed}; no search has found it."
    return f"It is {what}; the search chose none of the front."


def _chosen(provenance: Mapping[str, Any], counts: ClassCounts) -> str:
    titles, lower = _objectives(provenance, counts)
    return f"for the objective {', then '.join(titles)}{lower}" if titles else "by its scores"


def _objectives(provenance: Mapping[str, Any], counts: ClassCounts) -> tuple[list[str], str]:
    """Titles of the objectives, and in which of them lower is better."""
    searched = {"objectives": provenance[SEARCHED]} if SEARCHED in provenance else provenance
    found: Sequence[Metric] = objectives_of(searched)
    less = [metric.name for metric in found if metric.sign < 0]
    of = f" in {' and '.join(less)}" if len(found) > 1 else ""
    lower = f", where lower is better{of}" if less else ""
    return [_code(metric.title(counts)) for metric in found], lower


def _code(text: object) -> str:
    """Text that does not end a code span."""
    return " ".join(str(text).split()).replace("`", "'")
