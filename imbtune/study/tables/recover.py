"""Restores a study's tables before a search is resumed, so that each row is in them once.

Each part file that has a wrong row is written again in its place, in one atomic step, and missing
rows are appended. Every step brings the tables nearer to the journal, so a kill between two of them
needs nothing but the next resume.

The trials' table follows the journal, which always has at least its rows. Rows of epochs that will
be trained again are removed from the epochs' table, and those that a killed search had only
buffered are added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from imbtune.config.train_config import TrainConfig
from imbtune.errors import DamagedFileError, StudyError
from imbtune.progress import Log
from imbtune.storage import Store, join
from imbtune.study.checkpoints import FOLDER, checkpoint_epochs, delete_ended, foreign_files
from imbtune.study.records import COMPLETE, STOPPED, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables.own_files import (
    ForeignFileError,
    own_part,
    own_table,
    with_columns,
)
from imbtune.study.tables.parquet import (
    EPOCHS_NAME,
    KEY,
    TRIALS,
    GrowingTable,
    Key,
    Row,
    epoch_key,
    parsed_epoch,
)
from imbtune.study.tables.schema import EPOCHS, trial_schema
from imbtune.study.working_journal import FILE
from imbtune.training.phases import remaining_segments, rung_segments


def restore_tables(
    store: Store,
    knobs: Mapping[str, type],
    records: Sequence[TrialRecord],
    request: SearchRequest,
    log: Log,
    local: Store | None = None,
) -> list[Row]:
    """Make the tables of an interrupted study match its journal; a new study has none yet.

    Args:
        knobs: the type of every setting that a trial of the study may have.
        records: all trials in the journal.
        log: is called with a line for each damaged or foreign file.
        local: the folder of the journal's local file, for a study in a bucket.

    Returns:
        The rows of the epochs of interrupted trials, as the table had them before.
    """
    store.remove_leftovers()
    for name in foreign_files(store):
        log(f"{join(store.path, f'{FOLDER}/{name}')} is no checkpoint: it is not used")
    delete_ended(store, {record.trunk for record in records if record.state == STOPPED})
    if records:
        restore_trials(store, trial_schema(knobs), records, log)
    if not store.exists(EPOCHS_NAME):
        return []
    return restore_epochs(store, records, epochs_to_repeat(store, records, request), log, local)


def restore_trials(
    store: Store, schema: pa.Schema, records: Sequence[TrialRecord], log: Log
) -> None:
    """Make the trials' table have a row for each trial that has ended, as the journal says."""
    ended = {record.number: record for record in records if record.state != STOPPED}
    errors, placed = _buffered_errors(store), set[int]()
    changed: dict[str, list[int]] = {}  # the trials of each part that must be written again
    damaged: list[str] = []
    for name, part in _parts(store, TRIALS, log):
        if part is None:
            damaged.append(name)
            continue
        here = []
        for row in part.to_pylist():
            number = row["trial"]
            if number in placed or number not in ended or ended[number].state != row["state"]:
                continue
            here.append(number)
            placed.add(number)
            errors |= {number: row["error"]} if row.get("error") else {}
        if len(here) < part.num_rows or not part.schema.equals(schema):
            changed[name] = here
    missing = [number for number in ended if number not in placed]

    def rows(numbers: Iterable[int]) -> list[Row]:
        found = [ended[number] for number in numbers]
        return [replace(r, error=r.error or errors.get(r.number)).row() for r in found]

    for name, numbers in changed.items():
        table = pa.Table.from_pylist(rows(numbers), schema=schema)
        store.write_table(f"{TRIALS}/{name}", table)
    for name in damaged:
        table = pa.Table.from_pylist(rows(missing), schema=schema)
        store.write_table(f"{TRIALS}/{name}", table)
        log(f"{join(store.path, f'{TRIALS}/{name}')} is damaged: {FILE} has its rows")
        missing = []
    if missing:
        GrowingTable(store, TRIALS, schema).write(store, rows(missing))
    _delete_buffers(store, TRIALS)


def restore_epochs(
    store: Store,
    records: Sequence[TrialRecord],
    again: set[Key],
    log: Log,
    local: Store | None = None,
) -> list[Row]:
    """Make the epochs' table have each row once, and none of the epochs of `again`.

    Args:
        local: the folder of the journal's local file, for a study in a bucket.

    Returns:
        The rows of interrupted trials, as the table had them before.
    """
    stopped = {n for r in records if r.state == STOPPED for n in (r.number, r.trunk)}
    seen, interrupted = set(again), list[Row]()
    for name, part in _parts(store, EPOCHS_NAME, log):
        if part is None:
            kept = _keep_copy(store, f"{EPOCHS_NAME}/{name}")
            store.write_table(f"{EPOCHS_NAME}/{name}", EPOCHS.empty_table())
            log(
                f"{join(store.path, f'{EPOCHS_NAME}/{name}')} is damaged: its rows, curves of "
                f"epochs that were trained, are lost; the file is kept as {kept}"
            )
            continue
        keys = [epoch_key(row) for row in part.select(KEY).to_pylist()]
        keep = []
        for key in keys:
            keep.append(key not in seen)
            seen.add(key)
        mine = pa.array([key[0] in stopped for key in keys], pa.bool_())
        interrupted += with_columns(part.filter(mine), EPOCHS).to_pylist()
        if not all(keep) or not part.schema.equals(EPOCHS):
            kept_rows = part.filter(pa.array(keep, pa.bool_()))
            store.write_table(f"{EPOCHS_NAME}/{name}", with_columns(kept_rows, EPOCHS))
    missing = []
    local = local or store
    for row in _buffered_epochs(local, log):
        interrupted += [row] if row["trial"] in stopped else []
        if epoch_key(row) not in seen:
            seen.add(epoch_key(row))
            missing.append(row)
    if missing:
        GrowingTable(store, EPOCHS_NAME, EPOCHS).write(store, missing)
    _delete_buffers(local, EPOCHS_NAME)
    return interrupted


def recorded_epochs(store: Store, records: Sequence[TrialRecord]) -> dict[int, set[Key]]:
    """The rows that the epochs' table has of each interrupted trunk, by the trunk's number."""
    trunks = {record.number: record.trunk for record in records if record.state == STOPPED}
    found: dict[int, set[Key]] = {}
    if trunks and store.exists(EPOCHS_NAME):
        columns = own_table(store, EPOCHS_NAME).select(list(KEY))
        for row in columns.to_pylist():
            if row["trial"] in trunks:
                found.setdefault(trunks[row["trial"]], set()).add(epoch_key(row))
    return found


def check_journal(store: Store) -> None:
    """StudyError where a study's tables have rows, but its journal is missing."""
    tables = (TRIALS, EPOCHS_NAME, "finals")
    if not store.exists(FILE) and any(
        part is None or part.num_rows for table in tables for _, part in _parts(store, table)
    ):
        raise StudyError(
            f"{store.path} has trials and no {FILE}: restore the file, or search under another "
            "--name"
        )


def check_tables(store: Store, records: Sequence[TrialRecord]) -> None:
    """Check that the journal is not older than the tables: resuming would lose their trials.

    Args:
        records: all trials in the journal.

    Raises:
        StudyError: the tables have a trial that the journal lacks or has in another state.
    """
    known = {record.number: record.state for record in records}
    found: list[tuple[int, str]] = []
    for _, part in _parts(store, TRIALS):
        rows = [] if part is None else part.select(["trial", "state"]).to_pylist()
        found += [(row["trial"], row["state"]) for row in rows if row["state"] != STOPPED]
    for _, part in _parts(store, "finals"):
        found += [(n, COMPLETE) for n in ([] if part is None else part["trial"].to_pylist())]
    for number, state in found:
        if known.get(number) != state:
            raise StudyError(
                f"{store.path}: trial {number} is {state} in the tables, but "
                f"{known.get(number, 'missing')} in {FILE}: restore the newest {FILE} from a "
                "backup, or start a new search with another --name"
            )


def set_aside_damaged(store: Store, folder: str, log: Log) -> None:
    """Move damaged files out of a folder that has one file for each run, so that it runs again.

    Args:
        folder: such as `finals`.
        log: is called with a line for each.
    """
    for name, part in _parts(store, folder, log):
        if part is None:
            kept = _keep_copy(store, f"{folder}/{name}")
            store.delete(f"{folder}/{name}")
            log(
                f"{join(store.path, f'{folder}/{name}')} is damaged: its run is trained again, and "
                f"the file is kept as {kept}"
            )


def epochs_to_repeat(
    store: Store, records: Sequence[TrialRecord], request: SearchRequest
) -> set[Key]:
    """The epochs that interrupted trials will train when the search is resumed."""
    found: set[Key] = set()
    trunks: dict[int, list[TrialRecord]] = {}
    for record in records:
        if record.state == STOPPED:
            trunks.setdefault(record.trunk, []).append(record)
    for trunk, members in trunks.items():
        reached = min(record.budget for record in members)
        trained = checkpoint_epochs(store, trunk) if reached else 0
        configs = [TrainConfig.from_settings(record.settings) for record in members]
        phases = [config.schedule.shared for config in configs]
        path = rung_segments(request.rungs_kind, request.budgets, *phases)
        for segment in remaining_segments(path, reached, trained):
            here = [(trunk, epoch) for epoch in segment.epochs]
            here += [(members[segment.variant].number, epoch) for epoch in segment.branch]
            found |= {(n, e.phase, e.budget, e.index + 1) for n, e in here}
    return found


def _parts(store: Store, folder: str, log: Log | None = None) -> list[tuple[str, pa.Table | None]]:
    """The files of a table by name; None for the rows of a damaged one.

    Args:
        log: is called with a line for each foreign file.
    """
    found: list[tuple[str, pa.Table | None]] = []
    for name in store.parts(folder):
        try:
            found.append((name, own_part(store, folder, name)))
        except ForeignFileError as error:
            if log:
                log(str(error))
        except DamagedFileError:
            found.append((name, None))
    return found


def _keep_copy(store: Store, name: str) -> str:
    """Copy a damaged file to the study's folder; returns the copy's name."""
    kept = f"damaged-{name.replace('/', '-')}"
    store.write(kept, store.read(name))
    return kept


def _buffers(local: Store, table: str) -> list[str]:
    """The JSON Lines files with rows of a table, also where earlier versions wrote them."""
    if not local.local:
        return []
    paths = [*local.local.glob(f".{table}-part-*.jsonl"), *local.local.glob(f".{table}.jsonl")]
    paths += (local.local / table).glob(".part-*.jsonl")
    return [str(path.relative_to(local.local)) for path in sorted(paths) if path.is_file()]


def _delete_buffers(local: Store, table: str) -> None:
    for name in _buffers(local, table):
        local.delete(name)


def _complete_lines(local: Store, name: str) -> list[bytes]:
    """The lines of a file, without one that a kill cut off."""
    return [line for line in local.read(name).splitlines(keepends=True) if line.endswith(b"\n")]


def _buffered_epochs(local: Store, log: Log) -> list[Row]:
    """The rows of epochs that a killed search had only buffered."""
    found: list[Row] = []
    for name in _buffers(local, EPOCHS_NAME):
        rows = [parsed_epoch(line) for line in _complete_lines(local, name)]
        found += [row for row in rows if row is not None]
        if damaged := sum(row is None for row in rows):
            log(
                f"{join(local.path, name)} is damaged: {damaged} of its {len(rows)} lines, rows of "
                "epochs that were trained, are lost"
            )
    return found


def _buffered_errors(local: Store) -> dict[int, str]:
    """The errors of failed trials that a killed search of an earlier version had only buffered."""
    found = {}
    for name in _buffers(local, TRIALS):
        for line in _complete_lines(local, name):
            try:
                row = json.loads(line)
                if row["error"]:
                    found[int(row["trial"])] = str(row["error"])
            except (ValueError, TypeError, KeyError):  # damaged, and the journal has its row
                continue
    return found
