"""Checkpoints of trials that are still running, so that a resumed search need not train them again.

A study's `checkpoints/` has one file for each running trial, `NUMBER-EPOCHS.pt`: the state of its
trunk after that many epochs, as torch saved it. It is deleted when the trial ends. Scores do not
depend on it: without a checkpoint, a trial is trained from its start and reaches the same scores.
"""

from __future__ import annotations

from pathlib import Path

from imbtune.storage import Store

FOLDER = "checkpoints"


def save_checkpoint(study: str, number: int, trained_epochs: int, content: bytes) -> None:
    """Write a checkpoint of trial `number`, and delete its earlier ones.

    Nothing is written on a machine that does not see the study's folder.

    Args:
        study: folder or URI.
        trained_epochs: epochs of the trunk in it.
    """
    if "://" not in study and not Path(study).is_dir():
        return
    store = Store(study)
    store.write(f"{FOLDER}/{number}-{trained_epochs}.pt", content)
    delete_checkpoints(store, number, below=trained_epochs)


def load_checkpoint(study: str, number: int, trained_epochs: int) -> bytes:
    """The content of a checkpoint."""
    return Store(study).read(f"{FOLDER}/{number}-{trained_epochs}.pt")


def checkpoint_epochs(store: Store, number: int) -> int:
    """Epochs in the newest checkpoint of trial `number`; 0 without one."""
    return max((trained for n, trained in _found(store) if n == number), default=0)


def delete_checkpoints(store: Store, number: int, below: float = float("inf")) -> None:
    """Delete the checkpoints of trial `number` with fewer epochs than `below`."""
    for n, trained in _found(store):
        if n == number and trained < below:
            store.delete(f"{FOLDER}/{n}-{trained}.pt")


def _found(store: Store) -> list[tuple[int, int]]:
    stems = [name.removesuffix(".pt").split("-") for name in store.names(FOLDER)]
    return [(int(number), int(trained)) for number, trained in stems]
