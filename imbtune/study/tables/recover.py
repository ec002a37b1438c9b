"""Restores a study's tables before a search is resumed, so that each row is in them once.

The trials' table is written again from the journal, which always has at least the rows of the
table. Rows of epochs that will be trained again are removed from the epochs' table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from imbtune.config.train_config import TrainConfig
from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.checkpoints import checkpoint_epochs
from imbtune.study.journal import FILE
from imbtune.study.records import COMPLETE, STOPPED, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Key, Row, epoch_key, recover
from imbtune.study.tables.schema import EPOCHS, trial_schema
from imbtune.training.phases import remaining_segments, rung_segments


def restore_tables(
    store: Store,
    knobs: Mapping[str, type],
    records: Sequence[TrialRecord],
    request: SearchRequest,
) -> list[Row]:
    """Make the tables of an interrupted study match its journal; a new study has none yet.

    Args:
        knobs: the type of every setting that a trial of the study may have.
        records: all trials in the journal.

    Returns:
        The rows of the epochs of interrupted trials, as the table had them before.
    """
    recover(store, "trials", trial_schema(knobs))
    recover(store, "epochs", EPOCHS)
    if store.exists("trials"):
        old = store.table("trials").select(["trial", "error", "state"]).to_pylist()
        recorded = [(record.number, record.state) for record in records]
        written = sorted((row["trial"], row["state"]) for row in old)
        if written == recorded and all(record.state != STOPPED for record in records):
            return []
        errors = {row["trial"]: row["error"] for row in old if row["error"]}
        rows = [
            replace(record, error=record.error or errors.get(record.number)).row()
            for record in records
            if record.state != STOPPED
        ]
        schema = trial_schema(knobs)
        store.replace_folder("trials", pa.Table.from_pylist(rows, schema=schema))
    if store.exists("epochs"):
        table = store.table("epochs")
        rows = table.select(["trial", "phase", "budget", "epoch"]).to_pylist()
        keys = [epoch_key(row) for row in rows]
        keep, seen = [], epochs_to_repeat(store, records, request)
        for key in keys:
            keep.append(key not in seen)
            seen.add(key)
        store.replace_folder("epochs", table.filter(pa.array(keep, pa.bool_())).cast(EPOCHS))
        stopped = {n for r in records if r.state == STOPPED for n in (r.number, r.trunk)}
        interrupted = pa.array([key[0] in stopped for key in keys], pa.bool_())
        return list(table.filter(interrupted).to_pylist())
    return []


def recorded_epochs(store: Store, records: Sequence[TrialRecord]) -> dict[int, set[Key]]:
    """The rows that the epochs' table has of each interrupted trunk, by the trunk's number."""
    trunks = {record.number: record.trunk for record in records if record.state == STOPPED}
    found: dict[int, set[Key]] = {}
    if trunks and store.exists("epochs"):
        columns = store.table("epochs").select(["trial", "phase", "budget", "epoch"])
        for row in columns.to_pylist():
            if row["trial"] in trunks:
                found.setdefault(trunks[row["trial"]], set()).add(epoch_key(row))
    return found


def check_tables(store: Store, records: Sequence[TrialRecord]) -> None:
    """Check that the journal is not older than the tables: resuming would lose their trials.

    Args:
        records: all trials in the journal.

    Raises:
        StudyError: the tables have a trial that the journal lacks or has in another state.
    """
    known = {record.number: record.state for record in records}
    found: list[tuple[int, str]] = []
    if store.exists("trials"):
        rows = store.table("trials").select(["trial", "state"]).to_pylist()
        found += [(row["trial"], row["state"]) for row in rows if row["state"] != STOPPED]
    if store.exists("finals"):
        found += [(number, COMPLETE) for number in store.table("finals")["trial"].to_pylist()]
    for number, state in found:
        if known.get(number) != state:
            raise StudyError(
                f"{store.path}: trial {number} is {state} in the tables, but "
                f"{known.get(number, 'missing')} in {FILE}: restore the newest {FILE} from a "
                "backup, or start a new search with another --name"
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
