"""What the commands that use a model say: of a threshold, and of an export."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_model import threshold_at

from imbtune.cli.model_use.model_commands import difference_in_words
from imbtune.cli.model_use.threshold_lines import threshold_in_words, threshold_lines
from imbtune.inference.decisions.threshold import Condition
from imbtune.inference.use_threshold import ThresholdChange


def test_a_threshold_in_lines() -> None:
    found = replace(threshold_at(1.0), counts={"cat": 1005, "dog": 4})
    change = ThresholdChange(found, threshold_at(0.0, "cat"), True, notes=("a note",))
    assert threshold_lines(change) == [
        "a note",
        "Threshold: an image is predicted as 'dog' if its probability is at least 0.7311 (95 % "
        "interval 0.5 to 0.8808). Until now: 0.5, that is 'cat' from 0.5 on (chosen for f_beta of "
        "'cat')",
        "f_beta (beta 2) expected on other images: 0.8000 [0.7000, 0.9000]; on the images that it "
        "was chosen on 0.9000, where predicting the more probable class has 0.5000, and predicting "
        "'dog' for every image 0.6000",
        "Chosen on 9 images: 1,005 of 'cat', 4 of 'dog'",
    ]


def test_a_precision_that_is_asked_for() -> None:
    asked = Condition("precision", 0.9, 0.95, 0.7, (0.4, 1.0), 0.25, 3)
    found = replace(
        threshold_at(0.0),
        metric={"name": "recall_at_precision", "precision": 0.9},
        condition=asked,
        argmax_value=None,
        constant=None,
    )
    first, second, *warnings, _ = threshold_lines(ThresholdChange(found, None, True))
    assert first.endswith("Until now: 0.5 (the more probable class)")
    assert second == (
        "recall_at_precision (precision ≥ 0.9, of 'dog'). Expected on other images of a threshold "
        "that is chosen in this way: recall 0.8000 [0.7000, 0.9000], precision 0.7000 [0.4000, "
        "1.0000], at least 0.9 in 25% of the resamples; on the images that it was chosen on "
        "recall 0.9000 and precision 0.9500, where predicting the more probable class does not "
        "reach it"
    )
    assert [line.partition(":")[0] for line in warnings] == ["Warning", "Warning"]


def test_costs_are_told_by_the_names_of_classes() -> None:
    costs = {"name": "expected_cost", "costs": {"dog": {"cat": 4}}}
    change = ThresholdChange(replace(threshold_at(0.0), metric=costs), None, True)
    assert threshold_lines(change)[0].startswith(
        "Costs: an image of 'dog' that is predicted as 'cat' costs 4"
    )
    assert threshold_in_words(threshold_at(0.0), "dog") == "0.5 (chosen for f_beta)"


@pytest.mark.parametrize(
    ("difference", "most"), [(1.4e-07, "2e-07"), (1.5e-05, "2e-05"), (9.1e-08, "1e-07")]
)
def test_the_difference_of_an_export_is_rounded_up(difference: float, most: str) -> None:
    """What is at most 1.4e-07 is not at most 1e-07."""
    assert difference_in_words(difference) == f"probabilities differ by at most {most}"
    assert difference_in_words(0.0) == "and the same probabilities"
