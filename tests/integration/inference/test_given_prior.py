"""`--prior` on trained models: the true class mix of the test images makes probabilities better."""

from __future__ import annotations

from pathlib import Path

import pytest

import imbtune


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["erm", "balanced_softmax"])
def test_the_true_prior_is_not_worse_than_none(preset: str, tmp_path: Path) -> None:
    """The test images of digits-lt are balanced, and its training images 100 : 1."""
    model = tmp_path / "model"
    imbtune.train(preset=preset, space="digits-lt", calibrate=0.2, out=model, progress=None)
    plain, told = (
        imbtune.evaluate(model, prior=prior, resamples=0).metrics["value"]
        for prior in (None, "balanced")
    )
    assert told["log_loss"] <= plain["log_loss"]
    assert told["balanced_accuracy"] >= plain["balanced_accuracy"]
