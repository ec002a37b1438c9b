"""The study's journal: Optuna's log file, from which an interrupted search is resumed.

Each rung is written to it with all metrics as soon as it is reported, so a killed search loses no
score. The journal is synced to disk every few seconds; for a study in a bucket it is a local file
that is uploaded every few seconds (:mod:`imbtune.study.working_journal`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from imbtune.errors import StorageError, StudyError
from imbtune.metrics.metric import Metric
from imbtune.seeds import trial_seed
from imbtune.spaces.search_space import SearchSpace
from imbtune.storage import Store, join
from imbtune.storage.temporary import temporary_folder
from imbtune.study.lock import study_lock
from imbtune.study.optuna_storage import IndexedJournalStorage, JournalFile
from imbtune.study.records import (
    COMPLETE,
    FAIL,
    PRUNED,
    STOPPED,
    Cutoff,
    Machine,
    RungRecord,
    TrialRecord,
)
from imbtune.study.working_journal import FILE, journal_folder, remove_folder, repair, take_newest

# User attributes of an Optuna trial. The details are a preset's settings that are not searched;
# `diverged` and `error` have the reason in one line.
PRESET, DETAILS, TRUNK, RUNG = "preset", "preset details", "trunk", "rung "
DIVERGED, ERROR, RETRY_OF = "diverged", "error", "retry of"
MACHINE, STARTED = "machine", "started"  # as in a TrialRecord
STATES = {
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAIL,
    TrialState.RUNNING: STOPPED,  # interrupted; a resumed search goes on with it
}


@dataclass(frozen=True)
class RecordedRung:
    """What ASHA was told of a rung: a trunk reached `budget` epochs with its best `score`."""

    trunk: int
    preset: str | None
    budget: int
    score: float


class Journal:
    """The open journal of a study.

    Args:
        path: its local file.
        name: of the study, where the file is new.
        uploaded: bytes of it that a bucket has.
        objectives: how many the study has, where the file is new.

    Attributes:
        local: the local folder of its file.
        study: the Optuna study in it.

    Raises:
        StudyError: the file cannot be written, or is not a journal of Optuna's.
    """

    def __init__(
        self, store: Store, path: Path, name: str, uploaded: int = 0, objectives: int = 1
    ) -> None:
        self._store, self._path, self._uploaded = store, path, uploaded
        self.local = store if store.local else Store(str(path.parent))
        self._file = store.attempt(f"write {FILE} to", lambda: JournalFile(path))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            storage = IndexedJournalStorage(self._file)
            recorded = [study.study_name for study in storage.get_all_studies()]
            self.study: Study = optuna.create_study(
                study_name=recorded[0] if recorded else name,  # the folder may have been renamed
                storage=storage,
                directions=["maximize"] * objectives,
                load_if_exists=True,
            )
        except Exception as error:  # Optuna checks nothing: damaged entries fail in any way
            self.close()
            raise StudyError(
                f"cannot read {join(store.path, FILE)} ({error!r}): restore it from a backup"
            ) from error

    def check(self) -> None:
        """Raise the StudyError of what could not be written to it, if there is any."""
        self._file.check()

    def sync(self) -> None:
        """Write it to the disk, or upload what is new to the bucket. Tried once.

        Raises:
            StorageError: the storage failed.
        """
        self._sync(self._store.with_patience(0))

    def finish(self) -> None:
        """Sync and close it, at the end of a search.

        Raises:
            StorageError: the storage failed for too long. A bucket's journal stays on this machine.
        """
        try:
            self._sync(self._store)
        except StudyError as error:
            if self._store.local:
                raise
            raise StorageError(
                f"{error}: the newest journal is kept as {self._path}, and a resume on this "
                "machine goes on with it"
            ) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _sync(self, store: Store) -> None:
        if store.local:
            store.attempt(f"write {FILE} to", self._file.sync)
            return
        content = self._path.read_bytes()
        if len(content) != self._uploaded:
            store.write(FILE, content)
            self._uploaded = len(content)


@contextlib.contextmanager
def open_journal(store: Store, name: str, objectives: int = 1) -> Iterator[Journal]:
    """Open the study's journal, new (with so many objectives) or existing, for this process alone.

    Raises:
        StudyError: another process has it open.
    """
    with journal_folder(store) as folder, study_lock(store):
        path, uploaded = folder / FILE, b""
        if not store.local:
            uploaded = store.read(FILE) if store.exists(FILE) else b""
            store.attempt(f"copy {FILE} from", lambda: take_newest(path, uploaded))
        store.attempt(f"repair {FILE} in", lambda: repair(path))
        try:
            journal = Journal(store, path, name, len(uploaded), objectives)
        except StudyError:
            if not store.local and path.read_bytes() == uploaded:
                remove_folder(folder)  # else it would be taken for newer than a restored one
            raise
        try:
            journal._sync(store)  # a bucket never has tables without a journal
            yield journal
        finally:
            journal.finish()
            if not store.local:
                remove_folder(folder)


def one_trial(study: Study, number: int) -> FrozenTrial:
    """The current state of a trial, in time that does not grow with the study."""
    storage = study._storage
    return storage.get_trial(
        storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    )


@contextlib.contextmanager
def journal_copy(store: Store, name: str) -> Iterator[Study]:
    """The Optuna study of a copy of the journal: it can be read while another process searches."""
    if not store.exists(FILE):
        raise StudyError(f"{store.path} has no {FILE}: restore it from a backup")
    level = optuna.logging.get_verbosity()
    with temporary_folder("journal") as scratch:
        path = scratch / FILE
        path.write_bytes(store.read(FILE))
        repair(path)
        try:
            with contextlib.closing(Journal(store, path, name)) as journal:
                yield journal.study
        finally:
            optuna.logging.set_verbosity(level)


def read_trials(store: Store, name: str) -> list[FrozenTrial]:
    """The trials of a study, also while another process searches."""
    with journal_copy(store, name) as study:
        return study.get_trials()


def rungs_of(trial: FrozenTrial) -> list[RungRecord]:
    """The rungs that a trial has reached, in rising order.

    Raises:
        StudyError: they were recorded by another version of imbtune.
    """
    entries = [v for k, v in trial.user_attrs.items() if k.startswith(RUNG)]
    try:
        found = [RungRecord.from_journal(entry) for entry in entries]
    except (TypeError, KeyError) as error:
        raise StudyError(
            f"trial {trial.number} was recorded by another version of imbtune ({error}): resume "
            "it with that version, or search under another --name"
        ) from error
    return sorted(found, key=lambda rung: rung.budget)


def common_rungs(members: Sequence[FrozenTrial]) -> list[dict[int, RungRecord]]:
    """The rungs that a trunk has reached, rising; each with its records by trial number.

    A trunk has reached a rung when all of its trials have, except for those that diverged.
    """
    found: dict[int, dict[int, RungRecord]] = {}
    for trial in members:
        for rung in rungs_of(trial):
            found.setdefault(rung.budget, {})[trial.number] = rung
    healthy = {trial.number for trial in members if not reason_of(trial)}
    return [records for _, records in sorted(found.items()) if healthy <= records.keys()]


def reason_of(trial: FrozenTrial) -> str | None:
    """Why a trial diverged, as in "epoch 12: the loss is not finite (nan)"; else None."""
    reason: str | None = trial.user_attrs.get(DIVERGED)
    return reason


def trunk_of(trial: FrozenTrial) -> int:
    """The number of the trial whose trunk it shares; usually its own."""
    return int(trial.user_attrs.get(TRUNK, trial.number))


def trunks_of(study: Study) -> dict[int, list[FrozenTrial]]:
    """The trials of each trunk."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        found.setdefault(trunk_of(trial), []).append(trial)
    return found


def trial_records(
    study: Study, space: SearchSpace, seed: int, cutoffs: Mapping[int, Cutoff]
) -> list[TrialRecord]:
    """All trials of a study that have begun.

    Args:
        seed: of the study.
        cutoffs: by trunk number, where ASHA stopped it, or would have.
    """
    found = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state != TrialState.WAITING:
            with contextlib.suppress(ValueError):  # killed before it had all of its settings
                found.append(trial_record(trial, space, seed, cutoffs))
    return found


def trial_record(
    trial: FrozenTrial, space: SearchSpace, seed: int, cutoffs: Mapping[int, Cutoff]
) -> TrialRecord:
    """One trial.

    Raises:
        ValueError: it lacks settings.
    """
    trunk = trunk_of(trial)
    return TrialRecord(
        trial.number,
        trunk,
        trial.user_attrs.get(PRESET),
        STATES[trial.state],
        space.suggest(
            FixedTrial(trial.params), trial_seed(seed, trunk), trial.user_attrs.get(DETAILS)
        ).flat(),
        rungs_of(trial),
        cutoffs.get(trunk),
        (trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()),
        reason_of(trial),
        trial.user_attrs.get(ERROR) if trial.state == TrialState.FAIL else None,
        Machine(**trial.user_attrs[MACHINE]) if MACHINE in trial.user_attrs else None,
        trial.user_attrs.get(STARTED),
        trial.user_attrs.get(RETRY_OF),
    )


def recorded_rungs(study: Study) -> list[RecordedRung]:
    """The rungs of a study as ASHA was told them, in the order in which they were reported."""
    found = []
    for trunk, trials in trunks_of(study).items():
        preset = trials[0].user_attrs.get(PRESET)
        for records in common_rungs(trials):
            rungs = list(records.values())
            best = max(rung.score for rung in rungs)
            found.append((rungs[-1].order, RecordedRung(trunk, preset, rungs[0].budget, best)))
    return [rung for _, rung in sorted(found, key=lambda pair: pair[0])]


def apply_pending_states(
    study: Study, stopped: Container[int], full_budget: int, objectives: Sequence[Metric] = ()
) -> None:
    """Apply COMPLETE, PRUNED and FAIL states that a killed search had decided, but not recorded.

    The trials of a trunk fail together, for one reason.

    Args:
        stopped: numbers of the trunks that ASHA stops.
        full_budget: epochs of a finished trial.
        objectives: of the search.
    """
    for trunk, members in trunks_of(study).items():
        errors = [t.user_attrs[ERROR] for t in members if ERROR in t.user_attrs]
        scores = [
            {
                number: rung.scores(objectives)
                for number, rung in records.items()
                if rung.budget == full_budget
            }
            for records in common_rungs(members)[-1:]
        ]
        for trial in members:
            if trial.state != TrialState.RUNNING:
                continue
            if _failed(members) or reason_of(trial):
                if errors and not reason_of(trial):
                    study._storage.set_trial_user_attr(trial._trial_id, ERROR, errors[0])
                study.tell(trial.number, state=TrialState.FAIL)
            elif scores and scores[0]:
                study.tell(trial.number, scores[0][trial.number])
            elif trunk in stopped:
                study.tell(trial.number, state=TrialState.PRUNED)


def _failed(trunk: Sequence[FrozenTrial]) -> bool:
    """Whether a trunk raised an exception or lost too many workers: its trials fail together."""
    return any(
        ERROR in t.user_attrs or (t.state == TrialState.FAIL and not reason_of(t)) for t in trunk
    )
