"""The model card: what it says of the temperature."""

from __future__ import annotations

import pytest
import torch

from imbtune.final_training.final_task import TrainOptions
from imbtune.inference.calibration import calibrate
from imbtune.inference.model_card import _about_probabilities


@pytest.mark.parametrize(
    ("wrong", "says", "never"),
    [
        (0, "No temperature could be fitted: all 6 images are predicted correctly", "fitted on"),
        (
            1,
            "fitted on 6 images: kept ones. On these images, which",
            "could be fitted",
        ),
    ],
)
def test_a_temperature_is_fitted_or_it_is_not(wrong: int, says: str, never: str) -> None:
    """Where all images are right the card says only that none could be fitted."""
    labels_N = torch.tensor([0, 1, 0, 1, 0, 1])
    logits_N2 = 3.0 * torch.nn.functional.one_hot(labels_N, 2)
    logits_N2[:wrong] = logits_N2[:wrong].flip(1)
    calibration = calibrate(logits_N2, labels_N, "kept ones", ["cat", "dog"])
    said = _about_probabilities(calibration, {})
    assert says in said
    assert never not in said
    assert said.count("`prior` in `calibration.json`") == 1
    assert "fitted" not in " ".join(TrainOptions(calibrate=0.2).lines())
