"""What a final training writes to results.json."""

from __future__ import annotations

import json
import math

from imbtune.retrain import FinalRun


def test_recall_of_a_class_without_test_images_is_null() -> None:
    """JSON has no NaN."""
    means = {"margin_test": [0.5, math.nan], "margin_train": [0.5, 0.25]}
    run = FinalRun(0, {"few": None}, [0.5, math.nan], [[1, 1], [0, 0]], means, 1.5)
    written = json.loads(json.dumps(run.to_dict(), allow_nan=False))
    assert written["recall_K"] == [0.5, None]
    assert written["margins"] == {"margin_test": [0.5, None], "margin_train": [0.5, 0.25]}
