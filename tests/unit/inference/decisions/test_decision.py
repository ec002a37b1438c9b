"""From logits to probabilities and classes: temperature, prior and threshold together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from data_files import raises_one_line
from small_model import small_model, threshold_at

from imbtune.errors import ConfigError, DivergenceError
from imbtune.inference.decisions.decision import check_finite, decision

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.4], [40.0, 3.0]])
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)


def test_the_temperature_divides_the_logits() -> None:
    chosen = decision(small_model(temperature=4.0))
    assert chosen.logits(LOGITS).tolist() == (LOGITS.double() / 4).tolist()
    assert chosen.classes(chosen.logits(LOGITS)).tolist() == [0, 1, 0, 0]


def test_a_threshold_decides_for_the_positive_class() -> None:
    """Also where float32 probabilities are 1 for both sides of it."""
    chosen = decision(small_model(threshold=threshold_at(-1.5)))
    assert chosen.classes(chosen.logits(LOGITS)).tolist() == [0, 1, 1, 0]
    sure = decision(small_model(threshold=threshold_at(-36.5)))
    assert sure.classes(sure.logits(torch.tensor([[36.0, 0.0], [37.0, 0.0]]))).tolist() == [1, 0]


def test_a_given_threshold_is_of_the_rarer_class_in_training() -> None:
    for train_K, positive in (([30, 5], "dog"), ([5, 30], "cat"), ([7, 7], "dog")):
        chosen = decision(small_model(train_K=train_K), threshold=0.9)
        assert chosen.positive == ["cat", "dog"].index(positive)
        assert f"class '{positive}'" in chosen.lines[0]
    own = decision(small_model(threshold=threshold_at(0, "cat")), threshold=0.5)
    assert own.positive == 0


def test_thresholds_0_and_1() -> None:
    assert "probability of 0 on" in decision(small_model(), threshold=-0.0).lines[0]
    everything, nothing = (decision(small_model(), threshold=t) for t in (0.0, 1.0))
    assert everything.classes(everything.logits(LOGITS)).tolist() == [1, 1, 1, 1]
    assert nothing.classes(nothing.logits(LOGITS)).tolist() == [0, 0, 0, 0]


def test_a_prior_starts_from_the_implied_one() -> None:
    fitted = small_model(temperature=2.0, prior_K=[0.8, 0.2])
    chosen = decision(fitted, prior={"cat": 1, "dog": 1})
    expected = LOGITS.double() / 2 + torch.tensor([0.5 / 0.8, 0.5 / 0.2]).double().log()
    torch.testing.assert_close(chosen.logits(LOGITS), expected)
    same = decision(fitted, prior="cat=8,dog=2")
    torch.testing.assert_close(same.logits(LOGITS), LOGITS.double() / 2)


def test_without_a_calibration_it_starts_from_the_training_and_says_so() -> None:
    chosen = decision(small_model(train_K=[30, 10]), prior="balanced")
    expected = LOGITS.double() + torch.tensor([0.5 / 0.75, 0.5 / 0.25]).double().log()
    torch.testing.assert_close(chosen.logits(LOGITS), expected)
    assert "the model has no calibration" in chosen.lines[0]


def test_a_class_that_does_not_occur_is_never_predicted() -> None:
    chosen = decision(small_model(), prior={"cat": 0, "dog": 1})
    assert chosen.never == [0]
    decided = chosen.logits(LOGITS * 1e6)  # as with a small temperature
    assert chosen.classes(decided).tolist() == [1, 1, 1, 1]
    assert decided.softmax(1)[:, 0].tolist() == [0, 0, 0, 0]


def test_a_prior_and_the_threshold_of_another_one() -> None:
    fitted = small_model(threshold=threshold_at(-1.5))
    with raises_one_line("chosen for another class mix: give --threshold", kind=ConfigError):
        decision(fitted, prior="balanced")
    assert decision(fitted, prior="balanced", threshold=0.5).log_odds == 0


def test_more_classes_have_no_threshold() -> None:
    with raises_one_line("this model has 3", kind=ConfigError):
        decision(small_model(["a", "b", "c"]), threshold=0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True])
def test_a_threshold_is_a_probability(value: float) -> None:
    with raises_one_line("give a probability from 0 to 1", kind=ConfigError):
        decision(small_model(), threshold=value)


def test_a_model_in_python_uses_them_too() -> None:
    plain = small_model(temperature=2.0, prior_K=[0.8, 0.2])
    p_NK = plain.predict_proba(PIXELS)
    np.testing.assert_allclose(p_NK, (plain.logits(PIXELS) / 2).softmax(1).numpy(), rtol=1e-6)
    odds = p_NK[:, 1] / p_NK[:, 0]
    shifted = plain.predict_proba(PIXELS, prior="balanced")
    np.testing.assert_allclose(shifted[:, 1] / shifted[:, 0], odds * 4, rtol=1e-4)
    middle = float(np.log(np.sort(odds)[3:5]).mean())  # between two images
    names = small_model(temperature=2.0, threshold=threshold_at(middle)).predict(PIXELS)
    assert names.tolist() == np.where(np.log(odds) >= middle, "dog", "cat").tolist()
    assert set(names) == {"cat", "dog"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float) -> None:
    model = small_model()
    check_finite(model.network)
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[3] = value
    with raises_one_line("the model's weights are not finite", kind=DivergenceError):
        check_finite(model.network)


def test_a_class_of_share_0_is_told_as_never_predicted() -> None:
    (line,) = decision(small_model(), {"cat": 0, "dog": 10}).lines
    assert line.endswith("to 0; never predicted, since their share is 0: 'cat'")
    (line,) = decision(small_model(), {"cat": 1, "dog": 10}).lines
    assert "never predicted" not in line
