"""The command that a calibration prints, through the real command line with options at random."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from parsed import parsed_request

from imbtune.spaces.space_file import load_space
from imbtune.study.hints import program, space_command
from imbtune.study.request import SearchRequest

OPTIONS: dict[str, Any] = {
    "storage": "my runs",
    "data": Path("a b/$HOME"),
    "skip_corrupt": True,
    "address": "auto",
    "gpus_per_trial": 0.25,
    "cpus_per_trial": 2,
    "max_concurrent": 3,
}
PINS: list[dict[str, Any]] = [
    {},
    {"optimizer.lr": 1e-5, "data.ratio": 20},
    {"mix": "any_class_knn+linear+margin_aware", "precision": "float32"},
    {"epochs": 9, "loss.margin": 0.1 + 0.2, "data.subset_seed": 3},
]


@settings(max_examples=40)
@given(st.sets(st.sampled_from(sorted(OPTIONS))), st.sampled_from(PINS), st.booleans())
def test_a_printed_command_asks_for_the_same(
    chosen: set[str], pins: dict[str, Any], path: bool
) -> None:
    """Through the real command line: the space as typed, every setting, data and machines."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "my space.yaml"
        space.write_text("like: fashion_mnist-lt\n")
        typed = str(space) if path else "fashion_mnist-lt"
        options = {name: OPTIONS[name] for name in chosen}
        loaded = load_space(typed).pin(pins)
        request = SearchRequest(loaded, 100, "x", typed=typed, **options)
        words = shlex.split(space_command("search", request, name="x", calibration=None))
        assert words[0] == program()
        assert parsed_request(words[1:]) == request
