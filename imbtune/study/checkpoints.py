"""Trunks on disk at their last rung, so that a search that was killed need not train them again.

A study's `checkpoints/` has one file for each running trial, `NUMBER-EPOCHS.pt`, with the epochs
behind it; it goes when the trial ends. Nothing depends on it: without one a trial starts again and
comes to the same scores.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from imbtune.storage import Store

FOLDER = "checkpoints"


def save(path: str, number: int, trained: int, snapshot: dict[str, Any]) -> None:
    """Keep a trunk, and drop its earlier checkpoints.

    On a machine that does not see the study's folder nothing is written.
    """
    if "://" not in path and not Path(path).is_dir():
        return
    store, content = Store(path), io.BytesIO()
    torch.save(snapshot, content)
    store.write(f"{FOLDER}/{number}-{trained}.pt", content.getvalue())
    drop(store, number, below=trained)


def trained_epochs(store: Store, number: int) -> int:
    """The epochs behind the newest checkpoint of a trial; 0 without one."""
    return max((trained for n, trained in _found(store) if n == number), default=0)


def load(path: str, number: int, trained: int) -> dict[str, Any]:
    """A checkpoint's content."""
    content = Store(path).read(f"{FOLDER}/{number}-{trained}.pt")
    snapshot: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return snapshot


def drop(store: Store, number: int, below: float = float("inf")) -> None:
    """Delete a trial's checkpoints, or those with fewer epochs behind them."""
    for n, trained in _found(store):
        if n == number and trained < below:
            store.delete(f"{FOLDER}/{n}-{trained}.pt")


def _found(store: Store) -> list[tuple[int, int]]:
    stems = [name.removesuffix(".pt").split("-") for name in store.names(FOLDER)]
    return [(int(number), int(trained)) for number, trained in stems]
