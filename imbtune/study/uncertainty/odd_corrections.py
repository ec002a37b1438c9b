"""What to know of a winner's evidence: why a corrected mean or lead is not what one expects, and
where intervals are too short.

The correction for the choice of the winner is explained in docs/search.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imbtune.study.evidence import Evidence

# A correction up to this size hardly changes what is printed: a share of the interval, or a score
SHARE, SCORE = 0.02, 0.0005

FALLS, STAYS, RISES = -1, 0, 1


def odd_corrections(evidence: Evidence, digits: int) -> str:
    """Sentences, at most one on the mean and one on the lead; empty where nothing looks odd.

    Args:
        digits: decimals of a score with which mean and lead are printed. What looks equal there
            has not changed.
    """
    mean = _change(evidence.mean, evidence.mean_corrected, evidence.low, evidence.high, digits)
    ends = evidence.lead_low, evidence.lead_high
    lead = _change(evidence.lead, evidence.lead_corrected, *ends, digits)
    found = []
    if mean == STAYS and lead == FALLS:
        found.append(
            "The correction lowers the lead and hardly the mean: the winner was chosen by "
            "differences between trials, and what raises all of them, such as easy validation "
            "images, is no part of these."
        )
    elif mean == RISES:
        found.append(
            "The corrected mean is the higher one: with images that raise the winner's mean, that "
            "of another trial would rise still more, and it would be chosen."
        )
    if evidence.lead is None or evidence.lead_corrected is None:
        return " ".join(found)
    if evidence.lead_corrected <= 0 < evidence.lead:
        found.append(
            "A corrected lead that is not above zero means that the choice alone makes a lead like "
            "this one: the preset may be the better one."
        )
    elif lead == RISES:
        found.append(
            "The corrected lead is the larger one: the best preset was chosen, too, so its mean is "
            "likely too high."
        )
    elif lead == STAYS and mean == FALLS:
        found.append(
            "The mean falls while the lead hardly changes: the best preset was chosen, too, and "
            "the two corrections cancel."
        )
    return " ".join(found)


def failed_runs_note(evidence: Evidence) -> str:
    """A sentence on finalists that fail with some seeds; empty where none does."""
    failed, runs = evidence.failed_runs, evidence.finalists * evidence.seeds
    if not failed:
        return ""
    return (
        f"{failed} of the {runs} runs of the finals {'is' if failed == 1 else 'are'} no better "
        "than chance, of trials that are better with other seeds. A few seeds do not tell how "
        "often a trial fails, so its mean is hardly known, and the intervals may be too short; "
        "more seeds (`--final-seeds`) tell more."
    )


def _change(
    found: float | None,
    corrected: float | None,
    low: float | None,
    high: float | None,
    digits: int,
) -> int | None:
    """How a correction changes a mean or a lead; None without one."""
    if found is None or corrected is None or low is None or high is None:
        return None
    is_small = abs(corrected - found) <= max(SHARE * (high - low), SCORE)
    if is_small or f"{found:.{digits}f}" == f"{corrected:.{digits}f}":
        return STAYS
    return RISES if corrected > found else FALLS
