"""The study's journal: Optuna's log file, and the record that a search is resumed from.

Every rung is in it, with all figures, the moment that it is reached; a kill loses nothing that was
scored. Every few seconds it goes to the disk for good; for a study in a bucket it is a local file
that goes there.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from imbtune.errors import StudyError
from imbtune.seeds import trial_seed
from imbtune.space.search_space import SearchSpace
from imbtune.storage import Store, join
from imbtune.study.lock import alone
from imbtune.study.optuna_storage import IndexedJournalStorage, JournalFile
from imbtune.study.records import COMPLETE, FAIL, PRUNED, STOPPED, RungRecord, TrialRecord

FILE = "journal.log"
PRESET, TRUNK, RUNG = "preset", "trunk", "rung "  # user attributes of an Optuna trial
STATES = {
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAIL,
    TrialState.RUNNING: STOPPED,  # cut off; a resumed search goes on with it
}


class Journal:
    """The open journal of a study."""

    def __init__(self, store: Store, path: Path, name: str) -> None:
        self._store, self._path = store, path
        self._file = JournalFile(path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = IndexedJournalStorage(self._file)
            there = [study.study_name for study in storage.get_all_studies()]
            self.study: Study = optuna.create_study(
                study_name=there[0] if there else name,  # its folder may have another name by now
                storage=storage,
                direction="maximize",
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError) as error:  # a line that is none of Optuna's
            self.close()
            raise StudyError(
                f"cannot read {join(store.path, FILE)} ({error!r}): put a whole copy back"
            ) from error

    def sync(self) -> None:
        """Bring it to the disk, or to the bucket."""
        if self._store.local:
            self._file.sync()
        else:
            self._store.write(FILE, self._path.read_bytes())

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def open_journal(store: Store, name: str) -> Iterator[Journal]:
    """The study's journal, new or there already, for this process alone.

    Raises:
        StudyError: another process has it open.
    """
    with tempfile.TemporaryDirectory() as scratch, alone(store):
        path = (store.local or Path(scratch)) / FILE
        if not store.local and store.exists(FILE):
            path.write_bytes(store.read(FILE))
        _mend(path)
        journal = Journal(store, path, name)
        try:
            yield journal
        finally:
            journal.sync()
            journal.close()


def check_journal(store: Store) -> None:
    """StudyError where a study that has begun has lost its journal."""
    if store.exists("trials") and not store.exists(FILE):
        raise StudyError(
            f"{store.path} has trials and no {FILE}: put it back, or search under another --name"
        )


def one_trial(study: Study, number: int) -> FrozenTrial:
    """A trial of the study as it is now; in time that does not grow with the study."""
    storage = study._storage
    return storage.get_trial(
        storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    )


def read_trials(store: Store, name: str) -> list[FrozenTrial]:
    """The trials of a study, which another process may be searching."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / FILE
        path.write_bytes(store.read(FILE) if store.exists(FILE) else b"")
        _mend(path)
        with contextlib.closing(Journal(store, path, name)) as journal:
            return journal.study.get_trials()


def rungs_of(trial: FrozenTrial) -> list[RungRecord]:
    """The rungs that a trial has reached, rising."""
    rows = [v for k, v in trial.user_attrs.items() if k.startswith(RUNG)]
    try:
        found = [RungRecord(**row) for row in rows]
    except TypeError as error:
        raise StudyError(
            f"trial {trial.number} was recorded by another version of imbtune ({error}): go on "
            "with that one, or search under another --name"
        ) from error
    return sorted(found, key=lambda rung: rung.budget)


def common_rungs(members: Sequence[FrozenTrial]) -> list[list[RungRecord]]:
    """The rungs that all trials of a trunk have reached, rising; each with a record a trial."""
    each = [{rung.budget: rung for rung in rungs_of(trial)} for trial in members]
    budgets = sorted(set.intersection(*(set(rungs) for rungs in each)))
    return [[rungs[budget] for rungs in each] for budget in budgets]


def trunk_of(trial: FrozenTrial) -> int:
    """The number of the trial whose trunk it shares; its own for an ordinary one."""
    return int(trial.user_attrs.get(TRUNK, trial.number))


def trunks_of(study: Study) -> dict[int, list[FrozenTrial]]:
    """The trials of each trunk."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        found.setdefault(trunk_of(trial), []).append(trial)
    return found


def trial_records(
    study: Study, space: SearchSpace, seed: int, rescued: Mapping[int, int]
) -> list[TrialRecord]:
    """All trials of a study that have begun.

    Args:
        seed: of the study.
        rescued: budgets by trunk number, of trials that ASHA would have stopped.
    """
    found = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state != TrialState.WAITING:
            with contextlib.suppress(ValueError):  # killed before it had all of its settings
                found.append(trial_record(trial, space, seed, rescued))
    return found


def trial_record(
    trial: FrozenTrial, space: SearchSpace, seed: int, rescued: Mapping[int, int]
) -> TrialRecord:
    """One trial; ValueError where it lacks settings."""
    trunk = trunk_of(trial)
    return TrialRecord(
        trial.number,
        trunk,
        trial.user_attrs.get(PRESET),
        STATES[trial.state],
        space.suggest(FixedTrial(trial.params), trial_seed(seed, trunk)).flat(),
        rungs_of(trial),
        rescued.get(trunk),
        (trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()),
    )


def told_rungs(study: Study) -> list[tuple[dict[str, Any], int, float]]:
    """What ASHA heard of the study: a trunk's number and preset, a budget, the best score there."""
    told = []
    for trunk, trials in trunks_of(study).items():
        config = {"number": trunk, "preset": trials[0].user_attrs.get(PRESET)}
        for rungs in common_rungs(trials):
            best = max(rung.score for rung in rungs)
            told.append((rungs[-1].order, config, rungs[0].budget, best))
    return [rest for _, *rest in sorted(told, key=lambda row: row[0])]  # type: ignore[misc]


def settle(study: Study, stopped: Container[int], full_budget: int) -> None:
    """End the trials whose end was decided, but not yet told when the search was killed.

    Args:
        stopped: the trunks that ASHA stops.
    """
    for trunk, members in trunks_of(study).items():
        states = {trial.state for trial in members}
        finished = [rungs for rungs in common_rungs(members) if rungs[0].budget == full_budget]
        for i, trial in enumerate(members):
            if trial.state != TrialState.RUNNING:
                continue
            if finished:
                study.tell(trial.number, finished[0][i].score)
            elif TrialState.FAIL in states:
                study.tell(trial.number, state=TrialState.FAIL)
            elif trunk in stopped:
                study.tell(trial.number, state=TrialState.PRUNED)


def _mend(path: Path) -> None:
    """Undo what a kill in the middle of a write leaves: half a line, and Optuna's own lock."""
    for lock in path.parent.glob(f"{path.name}.lock*"):
        lock.unlink()
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
