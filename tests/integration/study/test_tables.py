"""The study on disk where writers are killed, in S3, and as W&B files."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from endless_rows import stream_until_killed
from table_rows import KNOBS, epoch_row, trial_row
from wandb.proto import wandb_internal_pb2 as pb

import imbtune
from imbtune.search_options import search_request
from imbtune.storage import Store, join
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.recover import restore_epochs
from imbtune.study.tables.wandb import WandbSink, check_wandb


def test_a_killed_writer_loses_no_row_and_leaves_no_broken_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing, several times; a reader looks in all the while."""
    for attempt in range(5):
        place = tmp_path / f"study{attempt}"
        writer = multiprocessing.get_context("spawn").Process(
            target=stream_until_killed, args=(str(place),)
        )
        writer.start()
        assert writer.pid
        seen = 0
        while not (place / "epochs").exists():
            assert writer.is_alive()
            time.sleep(0.02)
        while seen < 60 + attempt * 21:
            epochs = list(pd.read_parquet(place / "epochs")["epoch"])
            assert epochs == list(range(len(epochs))) and len(epochs) >= seen
            seen = len(epochs)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        epochs = list(pd.read_parquet(place / "epochs")["epoch"])
        assert epochs == list(range(len(epochs)))
        assert len(epochs) >= seen
        store = Store(str(place))
        store.remove_leftovers()
        restore_epochs(store, [], set(), print)
        rows = store.table("epochs").to_pylist()
        assert [row["epoch"] for row in rows] == list(range(len(rows)))
        assert len(rows) >= (place / "told").stat().st_size
        assert rows[-1] | {"epoch": 0, "time": rows[0]["time"]} == rows[0]
        assert rows[0]["time"] <= rows[-1]["time"]
        assert {path.name for path in place.iterdir()} == {"epochs", "trials", "told"}


def test_a_study_in_a_bucket(bucket: str) -> None:
    store = Store(join(bucket, "one"))
    assert store.is_empty()
    store.create()
    sink = ParquetSink(store, KNOBS)
    for epoch in range(3):
        sink.epoch(epoch_row(0, epoch))
        sink.flush()
    sink.trial(trial_row(0))
    sink.close()
    store.write("study.yaml", b"name: one")
    assert store.read("study.yaml") == b"name: one"
    assert store.table("epochs")["epoch"].to_pylist() == [0, 1, 2]
    assert store.table("trials")["mix"].to_pylist() == ["mamix"]
    assert not store.is_empty()
    assert Store(join(bucket, "two")).is_empty()


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: W&B's protobufs in LevelDB's log format."""
    content, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        block_left = 32768 - at % 32768
        if block_left < 7:
            at += block_left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield pb.Record.FromString(record)  # type: ignore[attr-defined]
            record = b""


def whole_run_of(path: Path) -> list[Any]:
    """All records of a run that has ended; W&B's own process may still be writing them."""
    deadline = time.monotonic() + 60
    while not any(record.HasField("exit") for record in wandb_records(path)):
        assert time.monotonic() < deadline, f"{path} never ended"
        time.sleep(0.05)
    return list(wandb_records(path))


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """What each .wandb file below a folder says of its run, by the runs' names."""
    found = []
    for path in folder.glob("wandb/offline-run-*/run-*.wandb"):
        records = whole_run_of(path)
        (run,) = [r.run for r in records if r.HasField("run")]
        history = [r.history.item for r in records if r.HasField("history")]
        values = [{(i.key or ".".join(i.nested_key)): i.value_json for i in h} for h in history]
        (end,) = [r.exit.exit_code for r in records if r.HasField("exit")]
        found.append(
            {
                "id": run.run_id,
                "name": run.display_name,
                "place": (run.entity, run.project, run.run_group, list(run.tags)),
                "config": {i.key: i.value_json for i in run.config.update},
                "epochs": [(int(v["_step"]), int(v["epoch"]), float(v["loss"])) for v in values],
                "end": end,
            }
        )
    return sorted(found, key=lambda run: str(run["name"]))


def test_wandb_has_one_run_a_trial_and_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trials at a time, an interruption, and a resumption under another folder's name."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    request = search_request(
        "digits-lt",
        trials=2,
        name="one",
        wandb="offline",
        wandb_project="tails",
        wandb_entity="team",
        wandb_tags=["night", "a b"],
    )
    study = {"name": "study", "started": "2026-01-01T00:00:00Z"}
    configs = {0: {"mix": "mamix"}, 1: {"mix": "none"}}
    first = WandbSink(request, study, tmp_path, configs)
    rows = [epoch_row(trial, epoch) for epoch in range(3) for trial in (0, 1)]
    for row in rows:
        first.epoch(row)
    first.trial(trial_row(0))
    first.trial({**trial_row(1), "state": "STOPPED"})
    first.close()
    before = runs_in(tmp_path)
    for path in tmp_path.glob("wandb/offline-run-*"):  # runs of one second would share a folder
        path.rename(path.with_name(f"offline-run-20260101_000000-{path.name.split('-', 3)[3]}"))
    rows = [*rows, epoch_row(1, 3)]  # W&B may lack what it was told last before a kill
    renamed = replace(request, name="another")
    second = WandbSink(renamed, study, tmp_path, {1: configs[1]}, rows)
    for epoch in range(1, 6):  # some of them again
        second.epoch(epoch_row(1, epoch))
    second.trial({**trial_row(0), "state": "STOPPED"})  # not begun again in this process
    second.trial({**trial_row(1), "state": "FAIL"})
    second.close()
    after = runs_in(tmp_path)
    assert [(run["name"], run["end"]) for run in before] == [("study-0", 0), ("study-1", 1)]
    assert [(run["name"], run["end"]) for run in after] == [("study-0", 0), ("study-1", 1)]
    assert [run["id"] for run in after] == [run["id"] for run in before]
    assert before[0]["id"] != before[1]["id"]
    assert {tuple(map(str, run["place"])) for run in before + after} == {
        ("team", "tails", "study", "['night', 'a b']")
    }
    assert before[0]["config"]["mix"] == '"mamix"'
    assert before[1]["epochs"] == [(0, 0, 1.5), (1, 1, 1.5), (2, 2, 1.5)]
    assert after[1]["epochs"] == [(n, n, 1.5) for n in range(6)]
    other = WandbSink(request, {**study, "started": "2026-01-02T00:00:00Z"}, tmp_path, configs)
    assert other._id != first._id  # a later study of the same name has runs of its own


@pytest.mark.parametrize("name", ["a/b:c?%#\\d", "x" * 300, "ünï [red]", "???"])
def test_wandb_takes_the_names_of_any_space(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    space = imbtune.space(name, like="digits-lt")
    request = search_request(space, trials=2, name="n" * 128, wandb="offline")
    check_wandb(request)
    sink = WandbSink(request, {"name": request.name}, tmp_path, {12: {"mix": "none"}})
    sink.epoch(epoch_row(12, 0))
    sink.trial(trial_row(12))
    (run,) = runs_in(tmp_path)
    assert run["place"][1] and len(run["place"][1]) <= 128 and len(run["place"][2]) == 128
    assert run["name"].endswith("n-12") and len(run["name"]) == 128
