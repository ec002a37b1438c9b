"""The coverage benchmark in small: evidence is right on simulated images, and was not before."""

from __future__ import annotations

import numpy as np
import pytest
from coverage import measure
from populations import Simulated, average_precision, balanced_accuracy, recalls, worst_class
from sklearn import metrics as sklearn

rng = np.random.default_rng(0)
LABELS = np.repeat([0, 1, 2], [5, 4, 6])
HITS = (rng.random((2, 15)) < 0.7).astype(float)


def test_scores_are_those_of_scikit_learn() -> None:
    for hits in HITS:
        predicted = np.where(hits > 0, LABELS, (LABELS + 1) % 3)
        recall = sklearn.recall_score(LABELS, predicted, average=None)
        assert recalls(hits, LABELS) == pytest.approx(recall)
        assert balanced_accuracy(hits, LABELS) == pytest.approx(recall.mean())
        assert worst_class(hits, LABELS) == pytest.approx(recall.min())
    values, labels = rng.standard_normal(15), (LABELS == 1).astype(int)
    expected = sklearn.average_precision_score(labels, values)
    assert average_precision(values, labels) == pytest.approx(expected)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_evidence_holds_the_true_values(spread: float) -> None:
    """Of 150 searches; 150 draws tell 95 from 90 in 100, hardly from 93."""
    population = Simulated((30,) * 10, 24, balanced_accuracy, spread)
    found = measure(population, draws=150, seed=1)
    assert found["mean, after"] > 0.9 and found["lead, after"] > 0.9
    assert found["wrong, after"] <= 0.05
    assert found["mean, before"] < 0.8
