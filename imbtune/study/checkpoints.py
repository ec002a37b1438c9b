"""Checkpoints of trials that are still running, so that a resumed search need not train them again.

A study's `checkpoints/` has one file for each running trial, `NUMBER-EPOCHS.pt`: the state of its
trunk after that many epochs, as torch saved it, after a line with its SHA-256. It is deleted when
the trial ends. Scores do not depend on it: without a checkpoint, a trial is trained from its start
and reaches the same scores.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Container
from pathlib import Path

from imbtune.errors import CheckpointError, StudyError
from imbtune.storage import Store, join
from imbtune.storage.checksums import DamagedError, seal, unseal

FOLDER = "checkpoints"
NAME = re.compile(r"(\d+)-(\d+)\.pt")
WRITE_SECONDS = 10.0  # a checkpoint that cannot be written costs less than a long wait for it
ZIP = b"PK"  # how torch's files begin, which earlier versions wrote without a checksum


def save_checkpoint(study: str, number: int, trained_epochs: int, content: bytes) -> None:
    """Write a checkpoint of trial `number`, and delete its earlier ones.

    Nothing is written on a machine that does not see the study's folder.

    Args:
        study: folder or URI.
        trained_epochs: epochs of the trunk in it.

    Raises:
        CheckpointError: it cannot be written; the earlier ones are still there.
    """
    if "://" not in study and not Path(study).is_dir():
        return
    store = Store(study, seconds=WRITE_SECONDS)
    try:
        store.write(f"{FOLDER}/{number}-{trained_epochs}.pt", seal(content))
    except (StudyError, OSError) as error:
        raise CheckpointError(
            f"the checkpoint of trial {number} is not written: {error}"
        ) from error
    delete_checkpoints(store, number, below=trained_epochs)


def load_checkpoint(study: str, number: int, trained_epochs: int) -> bytes:
    """The content of a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged or unreadable.
    """
    name = f"{FOLDER}/{number}-{trained_epochs}.pt"
    try:
        content = Store(study).read(name)
        if not content.startswith(ZIP):
            return unseal(content)
        with zipfile.ZipFile(io.BytesIO(content)) as records:
            if broken := records.testzip():
                raise DamagedError(f"the CRC-32 of {broken} is not that of its content")
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {join(study, name)}") from error
    except DamagedError as error:
        raise CheckpointError(f"{join(study, name)} is damaged: {error}") from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{join(study, name)} is damaged: {error}") from error
    except (StudyError, OSError) as error:
        raise CheckpointError(f"cannot read {join(study, name)}: {error}") from error
    return content


def checkpoint_epochs(store: Store, number: int) -> int:
    """Epochs in the newest checkpoint of trial `number`; 0 without one."""
    return max((trained for n, trained in _found(store) if n == number), default=0)


def delete_checkpoints(store: Store, number: int, below: float = float("inf")) -> None:
    """Delete the checkpoints of trial `number` with fewer epochs than `below`.

    Where the storage fails, they stay: nothing reads them again.
    """
    once = store.with_patience(0)
    try:
        for n, trained in _found(once):
            if n == number and trained < below:
                once.delete(f"{FOLDER}/{n}-{trained}.pt")
    except StudyError:
        return


def delete_ended(store: Store, going_on: Container[int]) -> None:
    """Delete the checkpoints of trials that have ended: a kill comes may have come before that.

    Args:
        going_on: the numbers of the trunks that a resumed search trains on.
    """
    once = store.with_patience(0)
    try:
        ended = {number for number, _ in _found(once) if number not in going_on}
    except StudyError:
        return
    for number in ended:
        delete_checkpoints(store, number)


def foreign_files(store: Store) -> list[str]:
    """The names of files among the checkpoints that are none."""
    return [name for name in store.names(FOLDER) if not NAME.fullmatch(name)]


def _found(store: Store) -> list[tuple[int, int]]:
    matches = (NAME.fullmatch(name) for name in store.names(FOLDER))
    return [(int(match[1]), int(match[2])) for match in matches if match]
