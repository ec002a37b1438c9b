"""A study's tables as they have to be when a search goes on: every row once.

The trials' table is written anew from the journal, which is never behind it. Of the epochs' table,
what will be trained again is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from imbtune.config import TrainConfig
from imbtune.results.schema import EPOCHS, trial_schema
from imbtune.results.store import Store
from imbtune.results.tables import recover
from imbtune.search import checkpoints
from imbtune.search.recorder import trial_row
from imbtune.search.records import STOPPED, TrialRecord
from imbtune.search.request import SearchRequest
from imbtune.training.progress import left_after, stretches

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
        old = store.table("trials").select(["trial", "error"]).to_pylist()
        errors = {row["trial"]: row["error"] for row in old if row["error"]}
        rows = [trial_row(record, errors) for record in records if record.state != STOPPED]
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
        trained = checkpoints.trained_epochs(store, trunk) if reached else 0
        configs = [TrainConfig.from_settings(record.settings) for record in members]
        phases = [config.schedule.shared for config in configs]
        path = stretches(request.rungs_kind, request.budgets, *phases)
        for stretch in left_after(path, reached, trained):
            here = [(trunk, epoch) for epoch in stretch.epochs]
            here += [(members[stretch.variant].number, epoch) for epoch in stretch.branch]
            found |= {(n, e.phase, e.budget, e.index + 1) for n, e in here}
    return found
