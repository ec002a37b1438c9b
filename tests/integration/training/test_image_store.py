"""Whole runs of images that worker processes decode are those of images in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from short_runs import everything, make_config, same, trained
from streamed_data import both


@pytest.fixture(params=[0, 2])
def workers(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many worker processes as torch has threads; one thread has none."""
    torch.set_num_threads(max(1, request.param))
    yield request.param
    torch.set_num_threads(1)


RUNS: list[dict[str, Any]] = [
    {"mix": "cutmix", "weights": "inverse"},
    {"mix": "smote", "mix__space": "features", "mix__neighbours": 2},
    {"mix": "soft_smote", "mix__neighbours": 2},
    {"generate": "m2m", "generate__steps": 1, "generate__gamma": 0.0, "generate__beta": 0.0,
     "generate__share": 0.5, "after": "crt", "optimizer": "sam"},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("run", "workers"),
    [(run, 0) for run in RUNS] + [(RUNS[0], 2), (RUNS[3], 2)],
    indirect=["workers"],
    ids=lambda value: str(value.get("mix", "m2m")) if isinstance(value, dict) else str(value),
)
def test_a_run_is_the_same_to_the_last_bit(run: dict[str, Any], workers: int) -> None:
    one, other = both()
    config = make_config(**run, epochs=1 if workers else 2, batch_size=23, loss="gcl")
    assert same(everything(trained(config, one)), everything(trained(config, other)))
