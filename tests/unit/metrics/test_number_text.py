"""Numbers as people read them."""

from __future__ import annotations

import pytest

from imbtune.metrics.number_text import as_text


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.25, ".4f", "0.2500"),
        (-0.25, ".4f", "−0.2500"),
        (-0.00004, ".4f", "0.0000"),
        (-0.0, ".2f", "0.00"),
        (-0.001, "+.2f", "+0.00"),
        (1.5, "+.1f", "+1.5"),
        (-1.5, "+.1f", "−1.5"),
        (-2.3026, ".3g", "−2.3"),
        (-1.2e-05, ".3g", "−1.2e-05"),
        (float("-inf"), ".3f", "−inf"),
        (None, ".3f", "–"),
    ],
)
def test_numbers(value: float | None, spec: str, text: str) -> None:
    assert as_text(value, spec) == text
