"""Optuna's journal storage for a single process: faster writes, and a faster `ask`.

Optuna's own file backend is made for many processes: it takes a lock and waits for the disk at
every entry, and a trial has about 17 entries. Here an entry is only handed to the operating system,
where it survives a kill of the process. `sync` writes it to the disk; a crash of the machine loses
the entries since the last `sync`.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from imbtune.errors import StudyError
from imbtune.storage.disk import append_whole
from imbtune.storage.retry import Patience


class JournalFile(BaseJournalBackend):
    """A journal file in Optuna's own format, one JSON entry per line."""

    def __init__(self, path: Path) -> None:
        self._path, self._patiently = path, Patience(str(path))
        self._file, self._reader = path.open("ab", buffering=0), path.open("rb")
        self._read = self._at = 0  # how many entries were read, and the position after the last one
        self._failed: StudyError | None = None

    def __reduce__(self) -> tuple[type[JournalFile], tuple[Path]]:
        return JournalFile, (self._path,)  # Tune pickles its searcher, but never loads it

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the entries from index `log_number_from` on.

        Raises:
            ValueError: a line is not JSON.
        """
        if log_number_from < self._read:
            self._read = self._at = 0
        self._reader.seek(self._at)
        for line in self._reader:
            self._read, self._at = self._read + 1, self._at + len(line)
            if self._read > log_number_from:
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries. A kill may leave only the first of them, and an incomplete last line.

        Raises:
            StorageError: the disk failed for too long, as a full one does. Then no more entries
                are taken, since they may follow from one that is missing.
        """
        self.check()
        lines = (json.dumps(log, separators=(",", ":"), allow_nan=False) + "\n" for log in logs)
        content = "".join(lines).encode()
        try:
            self._patiently("write to", lambda: append_whole(self._file, content))
        except StudyError as error:
            self._failed = error
            raise

    def check(self) -> None:
        """Raise the error of the entries that could not be appended, if there are any."""
        if self._failed:
            raise self._failed

    def sync(self) -> None:
        """Wait until all entries are on the disk; OSError where it fails."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
        self._reader.close()


class IndexedJournalStorage(JournalStorage):
    """Optuna's journal storage with an index of the WAITING trials.

    Every `ask` looks for an enqueued trial. Optuna scans all trials for it; with the index the time
    does not grow with the study.
    """

    _waiting: list[int] | None = None  # ids of trials that may be WAITING; None: not indexed yet

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        made = super().create_new_trial(study_id, template_trial)
        if self._waiting is not None and template_trial:
            self._waiting.append(made)
        return made

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        if states != (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        if self._waiting is None:
            found = super().get_all_trials(study_id, False, states)
        else:
            found = [self.get_trial(i) for i in self._waiting]
            found = [trial for trial in found if trial.state == TrialState.WAITING]
        self._waiting = [trial._trial_id for trial in found]
        return copy.deepcopy(found) if deepcopy else found
