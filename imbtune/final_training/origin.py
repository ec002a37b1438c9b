"""Where a trained configuration comes from, in one sentence of its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from imbtune.metrics.metric import Metric, objectives_of
from imbtune.metrics.predictions import ClassCounts

SEARCHED = "searched"  # objectives of the search, where the training was given others


def origin_in_words(provenance: Mapping[str, Any], counts: ClassCounts) -> str:
    """What a configuration is: a search's choice, one of its trials, a preset, a file or changed.

    Args:
        provenance: of the training, as `metrics.json` has it.
        counts: names the classes in the titles of metrics.
    """
    changed = ", ".join(f"`{_code(change)}`" for change in provenance.get("changed", ()))
    if "scores" in provenance:  # a file of a front, of which the user chose this one
        of_front = f"It is a trial of the Pareto front of a search {_chosen(provenance, counts)}"
        changes = f", changed by {changed}" if changed else ""
        return f"{of_front}{changes}; the search did not choose it."
    if "winner" in provenance:
        chosen = _chosen(provenance, counts)
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


def _chosen(provenance: Mapping[str, Any], counts: ClassCounts) -> str:
    searched = {"objectives": provenance[SEARCHED]} if SEARCHED in provenance else provenance
    found: Sequence[Metric] = objectives_of(searched)
    if not found:
        return "by a search"
    titles = [_code(metric.title(counts)) for metric in found]
    if "scores" in provenance:
        chosen = f"for the objectives {' and '.join(titles)}"
    else:
        chosen = f"for the objective {', then '.join(titles)}"
    less = [metric.name for metric in found if metric.sign < 0]
    of = f" in {' and '.join(less)}" if len(found) > 1 else ""
    return f"{chosen}, where lower is better{of}" if less else chosen


def _code(text: object) -> str:
    """Text that does not end a code span."""
    return " ".join(str(text).split()).replace("`", "'")
