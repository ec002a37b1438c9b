"""What is said of a corrected mean or lead that is not what one expects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imbtune.study.evidence import Evidence
from imbtune.study.uncertainty.odd_corrections import failed_runs_note, odd_corrections


def found(mean: float | None, lead: float | None, has_preset: bool = True) -> str:
    """Of a mean of 0.8 (0.75 to 0.85) and a lead of 0.05 (-0.02 to 0.12)."""
    evidence = Evidence(3, 4, 0.8, 0.75, 0.85, mean_corrected=mean)
    if has_preset:
        evidence = replace(evidence, lead=0.05, lead_low=-0.02, lead_high=0.12, lead_corrected=lead)
    return odd_corrections(evidence, 4)


@pytest.mark.parametrize(
    ("mean", "lead", "begins"),
    [
        (0.78, 0.03, []),
        (0.7995, 0.03, ["The correction lowers the lead and hardly the mean"]),
        (0.8, 0.05, []),  # nothing to explain
        (0.82, 0.03, ["The corrected mean is the higher one"]),
        (0.78, 0.07, ["The corrected lead is the larger one"]),
        (0.78, 0.0505, ["The mean falls while the lead hardly changes"]),
        (0.78, -0.01, ["A corrected lead that is not above zero"]),
        (0.78, 0.0, ["A corrected lead that is not above zero"]),
        (
            0.8,
            -0.01,
            ["lowers the lead and hardly the mean", "A corrected lead that is not above zero"],
        ),
        (0.81, 0.06, ["The corrected mean is the higher one", "The corrected lead is the larger"]),
    ],
)
def test_each_odd_correction_has_its_sentence(mean: float, lead: float, begins: list[str]) -> None:
    text = found(mean, lead)
    assert text.count(". ") + bool(text) == len(begins)
    assert [begin for begin in begins if begin not in text] == []


def test_a_preset_that_wins_has_no_lead() -> None:
    assert found(0.8, None, has_preset=False) == ""
    assert found(0.82, None, has_preset=False).startswith("The corrected mean is the higher one")
    assert found(0.78, None, has_preset=False) == ""


def test_nothing_is_said_without_a_correction() -> None:
    """In older studies, and with one seed."""
    assert odd_corrections(Evidence(3, 4, 0.8, 0.75, 0.85, 0.75, 0.05, -0.02, 0.12, 0.2), 4) == ""
    assert odd_corrections(Evidence(1, 4, 0.8, None, None), 4) == ""


def test_what_looks_equal_as_printed_is_not_said_to_rise() -> None:
    """Of 0.784 and 0.784 in the report; with four decimals a reader sees that it rises."""
    evidence = Evidence(3, 4, 0.7836, 0.783, 0.785, mean_corrected=0.7843)
    assert odd_corrections(evidence, 3) == ""
    assert odd_corrections(evidence, 4).startswith("The corrected mean is the higher one")


def test_runs_that_fail_are_counted() -> None:
    evidence = Evidence(3, 4, 0.8, 0.75, 0.85)
    assert failed_runs_note(evidence) == ""
    one, two = (failed_runs_note(replace(evidence, failed_runs=failed)) for failed in (1, 2))
    assert one.startswith("1 of the 12 runs of the finals is no better than chance")
    assert two.startswith("2 of the 12 runs of the finals are no better than chance")
