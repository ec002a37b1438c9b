"""The local file of the journal of a study in a bucket, which outlives the process.

Optuna appends to a local file, which is uploaded every few seconds. A killed search leaves it, with
what it had not uploaded yet; a resume on the same machine goes on with it. The same folder has the
rows of epochs that no part of the table has yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

from imbtune.data.data_source import cache_folder
from imbtune.errors import ImbtuneError, StudyError
from imbtune.storage import Store
from imbtune.storage.disk import write_through

FILE = "journal.log"
STATE_SET = b'"op_code":6,'  # of Optuna's entries, those that change a trial's state
ENDED = {1, 2, 3}  # Optuna's numbers of the states COMPLETE, PRUNED and FAIL


@contextlib.contextmanager
def journal_folder(store: Store) -> Iterator[Path]:
    """The folder of the journal's local file, for this process alone until the block ends.

    It is the study's own folder, or for a study in a bucket one in the user's cache, which stays.

    Raises:
        StudyError: another process of this machine has it; for a bucket: it cannot be written.
    """
    if store.local:
        yield store.local
        return
    folder = _lasting_folder(store)
    lock = folder / ".lock"
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_mine = lock.exists() and os.path.samestat(lock.stat(), os.fstat(held.fileno()))
        except BlockingIOError:
            is_mine = False
        except OSError:  # a file system without locks, such as some of networks
            is_mine = True
        if not is_mine:  # locked, or deleted by the process that had it until now
            raise StudyError(
                f"the study {store.path} is in use by another process: wait, or stop it"
            )
        yield folder


def take_newest(path: Path, uploaded: bytes) -> None:
    """Make the local file the newest journal of a study in a bucket.

    That is the local file where it begins with what the bucket has: a killed search had not
    uploaded the rest. Otherwise the study has gone on elsewhere, or is another one, and the rows
    beside the local file are not the study's either.

    Args:
        path: of the local file, which may be missing.
        uploaded: the journal in the bucket; empty where it has none.

    Raises:
        OSError: such as for a full disk; the local file is as before.
    """
    kept = complete_lines(path.read_bytes()) if path.exists() else b""
    begin = complete_lines(uploaded)
    if not begin or not kept.startswith(begin):
        new = path.with_name(f".{path.name}.tmp")
        write_through(new, uploaded)
        for other in path.parent.glob("*.jsonl"):
            other.unlink()
        new.replace(path)


def repair(path: Path) -> None:
    """Remove what a killed process may leave: an incomplete last line, and Optuna's own lock.

    The file is shortened in place: written again, it would be empty where a kill or a full disk
    ends the writing.

    Raises:
        OSError: such as for a missing permission.
    """
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink()
    if path.exists():
        content = path.read_bytes()
        complete = len(complete_lines(content))
        if complete != len(content):
            os.truncate(path, complete)


def complete_lines(content: bytes) -> bytes:
    """The journal without a last line that a kill cut off."""
    return content[: content.rfind(b"\n") + 1]


def ended_in_journal(store: Store) -> int:
    """How many trials have ended by the study's journal; 0 where it cannot be read.

    A killed search leaves trials that have ended in its journal, but not yet in the tables. The
    entries are read one by one, without Optuna, which would import it and replay all of them.
    """
    try:
        content = store.read(FILE) if store.exists(FILE) else b""
    except (OSError, ImbtuneError):
        return 0
    ended: dict[int, bool] = {}
    for line in complete_lines(content).splitlines():
        if STATE_SET in line:
            with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged
                entry = json.loads(line)
                ended[int(entry["trial_id"])] = entry["state"] in ENDED
    return sum(ended.values())


def remove_folder(folder: Path) -> None:
    """Remove the folder of a journal that has been uploaded."""
    shutil.rmtree(folder, ignore_errors=True)


def _lasting_folder(store: Store) -> Path:
    """The folder of a study in a bucket; without a cache, one in the temporary folder."""
    address, _, options = store.path.partition("?")
    endpoint = "".join(parse_qs(options).get("endpoint_override", []))  # others name no other place
    name = hashlib.sha256(f"{address}?{endpoint}".encode()).hexdigest()[:32]
    reason: Exception | None = None
    for base in (_in_cache, _in_temporary_folder):
        try:
            folder = base() / name
            for each in (folder.parent, folder):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
                if each.stat().st_uid != os.getuid():
                    raise PermissionError(f"{each} is another user's")
            (folder / ".lock").touch()
        except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
            reason = error
        else:
            return folder
    raise StudyError(
        f"cannot write the journal of {store.path} on this machine ({reason}): set $IMBTUNE_CACHE "
        "to a folder with space"
    )


def _in_cache() -> Path:
    return cache_folder("journals")


def _in_temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"imbtune-journals-{os.getuid()}"
