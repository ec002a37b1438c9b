"""A study's tables as they have to be when a search goes on: every row once.

The trials' table is written anew from the journal, which is never behind it. Of the epochs' table,
what will be trained again is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from imbtune.config.train_config import TrainConfig
from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.checkpoints import checkpoint_epochs
from imbtune.study.journal import FILE
from imbtune.study.records import COMPLETE, STOPPED, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import recover
from imbtune.study.tables.schema import EPOCHS, trial_schema
from imbtune.training.phases import remaining_segments, rung_segments

Key = tuple[int, str, int, int]  # trial, phase, budget, epoch


def restore_tables(
    store: Store,
    knobs: Mapping[str, type],
    records: Sequence[TrialRecord],
    request: SearchRequest,
) -> None:
    """Bring the tables of a study that was cut off to where its search goes on; nothing for a new
    study."""
    recover(store, "trials", trial_schema(knobs))
    recover(store, "epochs", EPOCHS)
    if store.exists("trials"):
        old = store.table("trials").select(["trial", "error", "state"]).to_pylist()
        whole = [(record.number, record.state) for record in records]
        if [(row["trial"], row["state"]) for row in sorted(old, key=_number)] == whole and all(
            record.state != STOPPED for record in records
        ):
            return
        errors = {row["trial"]: row["error"] for row in old if row["error"]}
        rows = [
            record.row(errors.get(record.number)) for record in records if record.state != STOPPED
        ]
        schema = trial_schema(knobs)
        store.replace_folder("trials", pa.Table.from_pylist(rows, schema=schema))
    if store.exists("epochs"):
        again = to_train_again(store, records, request)
        table = store.table("epochs")
        keys = zip(
            *(table[name].to_pylist() for name in ("trial", "phase", "budget", "epoch")),
            strict=True,
        )
        keep, seen = [], set(again)
        for key in keys:
            keep.append(key not in seen)
            seen.add(key)
        store.replace_folder("epochs", table.filter(pa.array(keep, pa.bool_())).cast(EPOCHS))


def check_tables(store: Store, records: Sequence[TrialRecord]) -> None:
    """StudyError where the tables have trials that the journal lacks, or has otherwise: it was lost
    or put back from before, and going on would lose them."""
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
                f"the tables of {store.path} have trial {number} as {state}, its {FILE} has "
                f"{known.get(number, 'no such trial')}: put the newest one back, or search under "
                "another --name"
            )


def to_train_again(
    store: Store, records: Sequence[TrialRecord], request: SearchRequest
) -> set[Key]:
    """The epochs that trials which were cut off will train, by trial, phase, budget and epoch."""
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


def _number(row: Mapping[str, Any]) -> int:
    number: int = row["trial"]
    return number
