"""The file of Optuna's journal, for the one process that has its study open.

Optuna's own backend is made for many processes: it takes a lock and waits for the disk at every
entry, of which a trial has about 17. Here an entry goes to the system at once, which no kill of the
process takes back, and to the disk with `sync`: only a machine that goes down loses what is newer.
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


class JournalFile(BaseJournalBackend):
    """An entry a line, in Optuna's own format."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("a+b")
        self._read = self._at = 0  # entries that were read, and the bytes that they take

    def __reduce__(self) -> tuple[type[JournalFile], tuple[Path]]:
        return JournalFile, (self._path,)  # Tune pickles its searcher, and never looks at it

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from that one on; ValueError for a line that is none."""
        if log_number_from < self._read:
            self._read = self._at = 0
        self._file.seek(self._at)
        for line in self._file:
            self._read, self._at = self._read + 1, self._at + len(line)
            if self._read > log_number_from:
                yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, all of them or, in a kill, the first and a part of a line."""
        lines = (json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._file.write("".join(lines).encode())
        self._file.flush()

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class IndexedJournalStorage(JournalStorage):
    """Optuna's storage, but what waits to be asked for, which every `ask` looks for, is found
    without a look at all other trials."""

    _waiting: list[int] | None = None  # ids of all trials that may wait; none before the first look

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
