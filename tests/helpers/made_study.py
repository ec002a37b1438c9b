"""A small study on disk that no search made: its rows are written by the study's own code."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from small_data import make_splits

from imbtune.spaces.knob_types import knob_types
from imbtune.spaces.space_file import parse_space
from imbtune.storage import Store
from imbtune.study.evidence import decide, evidence_of
from imbtune.study.files import best_yaml, write_study
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, FAIL, PRUNED, FinalRecord, RungRecord, TrialRecord
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.schema import FINALS
from imbtune.tuning.cluster.resources import Resources

SPACE: Mapping[str, Any] = {
    "data": {"name": "digits"},
    "train": {"epochs": 9, "model.width": 4},
    "rungs": {"eta": 3, "count": 2},
    "presets": ["erm", "drw"],
    "knobs": {
        "mix": ["none", "mamix"],
        "mix.omega": None,
        "weights": ["none", "effective_number"],
        "optimizer.lr": None,
    },
}
SPLITS = make_splits([60, 20, 6, 1])
SEEDS = (101, 102)


def record(number: int, scores: Mapping[int, float], **changes: Any) -> TrialRecord:
    """A trial with a score for each budget that it reached; with an ω if its number is odd."""
    space = parse_space("tiny", SPACE)
    preset = {0: "erm", 1: "drw"}.get(number)
    settings: dict[str, Any] = {"mix": "mamix", "mix.omega": 0.5} if number % 2 else {}
    config = space.preset(preset) if preset else space.pin(settings).base()
    rungs = [
        RungRecord(
            order=number,
            kind="cooldown",
            budget=budget,
            score=score,
            images=100 * budget,
            metrics={"balanced_accuracy": score, "many": None},
            recall_K=[1.0, score, 0.0, 0.0],
            margins={},
            node="n",
            seconds=1.5,
            threads=1,
        )
        for budget, score in scores.items()
    ]
    state = COMPLETE if 9 in scores else PRUNED if scores else FAIL
    flat = config.replace(seed=number + 7).flat()
    return TrialRecord(number, number, preset, state, flat, rungs, **changes)


RECORDS = [
    record(0, {3: 0.30, 9: 0.50}),
    record(1, {3: 0.35, 9: 0.60}),
    record(2, {3: 0.40, 9: 0.80}),
    record(3, {3: 0.45, 9: 0.70}),
    record(4, {3: 0.20}),
    record(5, {}),
]
# trial 2 has the best score of one run, trial 3 the best mean over fresh seeds
FINALS_OF = {1: (0.55, 0.57), 2: (0.60, 0.61), 3: (0.70, 0.72)}


def make_study(
    path: str,
    records: Sequence[TrialRecord] = RECORDS,
    finals: Mapping[int, Sequence[float]] = FINALS_OF,
    imports: Sequence[str] = (),
    best: bool = True,
) -> ParquetSink:
    """Write the study's files to `path`; the sink is still open, and its rows are flushed."""
    storage, _, name = path.partition("?")[0].rpartition("/")
    query = path.partition("?")[1] + path.partition("?")[2]
    space = parse_space("tiny", SPACE)
    request = SearchRequest(space, 6, name, storage=storage + query, seed=7)
    store = Store(request.path)
    store.create()
    write_study(store, request, SPLITS, vars(Resources(1, 0, 2)))
    if imports:
        content = store.read("space.yaml").decode()
        store.write("space.yaml", f"imports: [{', '.join(imports)}]\n{content}".encode())
    sink = ParquetSink(store, knob_types(space))
    for each in records:
        sink.trial(
            dataclasses.replace(each, error="ValueError: bad" if each.state == FAIL else None).row()
        )
        for epoch in range(1, each.budget + 1):
            sink.epoch(epoch_row(each.number, epoch))
    sink.flush()
    kept = [
        FinalRecord(trial, seed, score)
        for trial, scores in finals.items()
        for seed, score in zip(SEEDS, scores, strict=True)
    ]
    for final in kept:
        row = {**vars(final), "balanced_accuracy": final.score, "images": 900}
        table = pa.Table.from_pylist([row], schema=FINALS)
        store.write_table(f"finals/{final.trial}-{final.seed}.parquet", table)
    if best and any(each.state == COMPLETE for each in records):
        store.write("best.yaml", best_yaml(request, outcome_of(request, records, kept)).encode())
    return sink


def outcome_of(
    request: SearchRequest, records: Sequence[TrialRecord], finals: Sequence[FinalRecord]
) -> SearchOutcome:
    """How the search would have ended."""
    finished = {r.number: r for r in records if r.state == COMPLETE}
    scores = {number: r.score or 0.0 for number, r in finished.items()}
    presets = [number for number, r in finished.items() if r.preset]
    winner, baseline = decide(scores, presets, finals)
    assert winner is not None and baseline is not None
    evidence = evidence_of(finals, winner, baseline)
    return SearchOutcome(
        request,
        request.path,
        list(records),
        finished[winner],
        finished[baseline],
        1.0,
        evidence,
        objectives=request.space.objectives,
    )


def epoch_row(trial: int, epoch: int) -> dict[str, Any]:
    return {
        **{"trial": trial, "epoch": epoch, "phase": "trunk", "budget": 9, "lr": 0.1, "loss": 1.0},
        **{"balanced_accuracy": 0.1 * epoch, "recall": [0.5, 0.5, 0.5, 0.5]},
        "time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    }
