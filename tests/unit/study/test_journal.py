"""The journal as the record of a search: its trials, its file, and what ASHA was told."""

from __future__ import annotations

import contextlib
import datetime as dt
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState
from scripted import (
    BUDGETS,
    SEED,
    ScriptedSearch,
    next_specs,
    rung_report,
    rung_result,
    tiny_space,
    told,
    trial_report,
)

from imbtune.config.train_config import TrainConfig
from imbtune.seeds import trial_seed
from imbtune.storage import Store
from imbtune.study.journal import (
    RecordedRung,
    apply_pending_states,
    open_journal,
    read_trials,
    recorded_rungs,
    trial_records,
)
from imbtune.study.optuna_storage import IndexedJournalStorage, JournalFile
from imbtune.study.records import Cutoff, Machine
from imbtune.study.working_journal import FILE
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.messages import RUNG_TIME, SCORE, TrialSpec
from imbtune.tuning.optuna_searcher import OptunaSearcher


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    with open_journal(Store(str(tmp_path)), "s") as journal:
        yield journal.study


def searcher_on(study: optuna.Study, trials: int, late: int = 1) -> OptunaSearcher:
    return OptunaSearcher(study, tiny_space(late), trials, SEED, BUDGETS[-1], "random")


# ---- records -----------------------------------------------------------------------------------


def test_the_records_of_every_state(study: optuna.Study) -> None:
    """A trial that waits, or that was not asked for all of its settings, has not begun."""
    space, searcher = tiny_space(), searcher_on(study, 7)
    given = next_specs(searcher, 5)
    for budget in BUDGETS[:2]:
        searcher.on_trial_result("t0", rung_result(given[0], budget))
    searcher.on_trial_complete("t0", rung_result(given[0], 9))
    searcher.on_trial_complete("t1", rung_result(given[1], 1))
    searcher.on_trial_result("t2", rung_result(given[2], 1))
    searcher.on_trial_complete("t2", None, error=True)
    searcher.give_up("t2", "ValueError: bad")
    searcher.on_trial_result("t3", rung_result(given[3], 1))
    half = study.ask()
    half.suggest_categorical("mix", ["none", "mixup", "mamix"])
    study.enqueue_trial({"mix": "none"})

    cutoffs = {1: Cutoff(1, 0.6, is_spared=False), 3: Cutoff(1, 0.5, is_spared=True)}
    records = trial_records(study, space, SEED, cutoffs)
    assert [r.number for r in records] == [0, 1, 2, 3, 4]
    assert [r.state for r in records] == ["COMPLETE", "PRUNED", "FAIL", "STOPPED", "STOPPED"]
    assert [r.preset for r in records] == ["erm", "drw", None, None, None]
    assert [[x.budget for x in r.rungs] for r in records] == [[1, 3, 9], [1], [1], [1], []]
    assert [r.never_pruned for r in records] == [None, None, None, 1, None]
    assert [r.row()["cutoff"] for r in records] == [None, 0.6, None, 0.5, None]
    assert [r.trunk for r in records] == [0, 1, 2, 3, 4]
    for record, suggestion in zip(records, given, strict=True):
        assert record.settings == suggestion.settings[0]
        assert record.settings["seed"] == trial_seed(SEED, record.number)
        scores = [rung_report(record.number, x.budget, record.settings).score for x in record.rungs]
        assert [x.score for x in record.rungs] == scores
        assert record.score == (scores[-1] if scores else None)
    assert records[0].metrics["accuracy"] == records[0].score
    assert records[0].rungs[-1].recall_K == [records[0].score, 0.5]
    assert [x.order for x in records[0].rungs] == [0, 1, 2]


def test_the_records_of_late_variants_have_their_trunk_and_its_seed(study: optuna.Study) -> None:
    searcher = searcher_on(study, 5, late=3)
    assert [spec.trials for spec in next_specs(searcher, 2)] == [[0, 1], [2, 3, 4]]
    records = trial_records(study, tiny_space(3), SEED, {})
    assert [r.trunk for r in records] == [0, 0, 2, 2, 2]
    assert [r.settings["seed"] for r in records] == [trial_seed(SEED, r.trunk) for r in records]
    assert len({r.settings["seed"] for r in records}) == 2
    assert [TrainConfig.from_settings(r.settings).flat() for r in records] == [
        r.settings for r in records
    ]


def test_rungs_are_told_in_the_order_they_were_reached(study: optuna.Study) -> None:
    """A trunk's is reached when its last variant has it, and counts with the best of them."""
    searcher = searcher_on(study, 6, late=2)
    given = next_specs(searcher, 3)
    order = [(2, 1), (0, 1), (0, 3), (1, 1), (2, 3)]
    for trunk, budget in order:
        searcher.on_trial_result(f"t{trunk}", rung_result(given[trunk], budget))
    searcher.on_trial_result("t1", rung_result(given[1], 3, scored=1))
    assert recorded_rungs(study) == [
        RecordedRung(
            2 * trunk, given[trunk].preset, budget, rung_result(given[trunk], budget)[SCORE]
        )
        for trunk, budget in order
    ]


def test_settle_ends_what_was_decided_and_no_more(study: optuna.Study) -> None:
    searcher = searcher_on(study, 12, late=2)
    given = next_specs(searcher, 6)
    for i, reached in enumerate([(1, 3, 9), (1,), (1,), (1,), (), (1, 3)]):
        for budget in reached:
            searcher.on_trial_result(f"t{i}", rung_result(given[i], budget))
    searcher.on_trial_result(
        "t5", rung_result(given[5], 9, scored=1)
    )  # killed before the second one's was kept
    study.tell(2, state=TrialState.PRUNED)
    study.tell(4, state=TrialState.FAIL)
    apply_pending_states(study, {0, 2}, BUDGETS[-1])
    states = [trial.state.name for trial in study.trials]
    assert states[:4] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert states[4:] == ["FAIL", "FAIL", *["RUNNING"] * 6]
    assert [study.trials[i].value for i in (0, 1)] == [
        rung_report(number, 9, settings).score
        for number, settings in zip(given[0].trials, given[0].settings, strict=True)
    ]


# ---- the file ----------------------------------------------------------------------------------


def test_half_a_line_and_a_stale_lock_are_repaired(tmp_path: Path) -> None:
    store, file = Store(str(tmp_path)), tmp_path / FILE
    with open_journal(store, "s") as journal:
        ScriptedSearch(journal.study, tiny_space(), 4).run()
        before = [told(trial) for trial in journal.study.trials]
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":4,"worker_id":"some')
    assert JournalFileSymlinkLock(str(file)).acquire()
    assert list(tmp_path.glob(f"{FILE}.lock*"))
    assert [told(trial) for trial in read_trials(store, "s")] == before
    assert file.read_bytes() != whole  # to read is not to fix
    with open_journal(store, "s") as journal:
        assert [told(trial) for trial in journal.study.trials] == before
        assert not list(tmp_path.glob(f"{FILE}.lock*"))
        ScriptedSearch(journal.study, tiny_space(), 8).run()
    assert len(read_trials(store, "s")) == 8
    assert file.read_bytes().startswith(whole)


# ---- what stops --------------------------------------------------------------------------------

Told = tuple[dict[str, Any], int, float]


@dataclass
class Live:
    """A run of the scheduler: its seed, what it was told, what it decided, and its sample."""

    seed: int
    told: list[RecordedRung] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    cutoffs: dict[int, Cutoff] = field(default_factory=dict)


def decision_of(scheduler: RungScheduler, trial: Any, budget: int, score: float) -> str:
    """The decision on a rung; Ray does not ask about a trial that says that it is done."""
    result = {RUNG_TIME: 3 ** BUDGETS.index(budget), SCORE: score}
    if budget == BUDGETS[-1]:
        scheduler.on_trial_complete(None, trial, result)  # type: ignore[arg-type]
        return RungScheduler.STOP
    return scheduler.on_trial_result(None, trial, result)


def begun(scheduler: RungScheduler, number: int, preset: str | None, name: str) -> Any:
    spec = TrialSpec.single_run(number, {}, without_rungs=False, preset=preset)
    trial = SimpleNamespace(trial_id=f"{name} {number}", config=spec.to_tune(), spec=spec)
    scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
    return trial


@st.composite
def live_runs(draw: st.DrawFn) -> Live:
    """Trials in any order on random scores, some of them equal, some of them presets'."""
    live = Live(draw(st.integers(0, 9)))
    scheduler = RungScheduler(BUDGETS, 3, never_prune=0.3, seed=live.seed)
    presets = draw(st.lists(st.sampled_from([None, "erm"]), min_size=1, max_size=25))
    running = [begun(scheduler, i, preset, "live") for i, preset in enumerate(presets)]
    left = {trial.trial_id: list(BUDGETS) for trial in running}
    while running:
        trial = running[draw(st.integers(0, len(running) - 1))]
        budget, score = left[trial.trial_id].pop(0), draw(st.integers(0, 5)) / 10
        live.told.append(RecordedRung(trial.spec.number, trial.spec.preset, budget, score))
        live.decided.append(decision_of(scheduler, trial, budget, score))
        if live.decided[-1] == RungScheduler.STOP:
            running.remove(trial)
    live.cutoffs = scheduler.cutoffs
    return live


@given(live_runs(), st.data())
def test_a_replayed_scheduler_decides_as_the_live_one(live: Live, data: st.DataObject) -> None:
    """All of it, or up to any point; then the rest comes from trials that are new to Ray."""
    cut = data.draw(st.integers(0, len(live.told)))
    scheduler = RungScheduler(BUDGETS, 3, never_prune=0.3, seed=live.seed)
    stopped = scheduler.replay(live.told[:cut])
    before = zip(live.told[:cut], live.decided[:cut], strict=True)
    assert stopped == {t.trunk for t, decision in before if decision == RungScheduler.STOP}
    trials: dict[int, Any] = {}
    for rung, decision in zip(live.told[cut:], live.decided[cut:], strict=True):
        if rung.trunk not in trials:
            trials[rung.trunk] = begun(scheduler, rung.trunk, rung.preset, "new")
        assert decision_of(scheduler, trials[rung.trunk], rung.budget, rung.score) == decision
    assert scheduler.cutoffs == live.cutoffs


def test_the_file_is_optunas_own(tmp_path: Path) -> None:
    """Either reads what the other wrote, from any entry on."""
    entries = [{"op_code": i, "text": f"ö\n{i}"} for i in range(5)]
    with contextlib.closing(JournalFile(tmp_path / "ours")) as ours:
        theirs = JournalFileBackend(str(tmp_path / "theirs"))
        for entry in entries:
            ours.append_logs([entry])
            theirs.append_logs([entry])
        ours.append_logs(entries)
        theirs.append_logs(entries)
        ours.sync()
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
        for first in (0, 3, 7, 10, 2):
            read = list(ours.read_logs(first))
            assert read == (entries * 2)[first:] == list(theirs.read_logs(first))
        with contextlib.closing(pickle.loads(pickle.dumps(ours))) as again:
            assert list(again.read_logs(4)) == (entries * 2)[4:]


def test_what_waits_is_found_as_optuna_finds_it(tmp_path: Path) -> None:
    """Also what an earlier process enqueued."""
    path, waiting = tmp_path / "journal.log", (TrialState.WAITING,)
    for _ in range(2):
        with contextlib.closing(JournalFile(path)) as file:
            study = optuna.create_study(
                study_name="s", storage=IndexedJournalStorage(file), load_if_exists=True
            )
            for value in range(3):
                if value != 1:
                    study.enqueue_trial({"x": value})
                seen = study.get_trials(deepcopy=False, states=waiting)
                assert seen == [t for t in study.get_trials() if t.state == TrialState.WAITING]
                if value != 2:
                    study.tell(study.ask(), 0.0)
            study.enqueue_trial({"x": 9})
    assert len(seen) == 2  # one of them of the first process


def test_the_machine_is_the_last_one_and_the_start_the_first(study: optuna.Study) -> None:
    searcher = searcher_on(study, 2)
    (spec,) = next_specs(searcher, 1)
    for number, budget in enumerate(BUDGETS[:2]):
        machine = Machine(f"node {number}", f"host {number}", "cpu")
        report = replace(
            trial_report([rung_report(0, budget, spec.settings[0])], number, False),
            machine=machine,
            started=100.0 + number,
        )
        searcher.on_trial_result("t0", report.to_tune(3))
    (record,) = trial_records(study, tiny_space(), SEED, {})
    assert (record.started, record.machine) == (100.0, machine)
    row = record.row()
    assert row["started"] == dt.datetime(1970, 1, 1, 0, 1, 40, tzinfo=dt.UTC)
    assert [row[name] for name in ("node", "host", "device", "gpu")] == [
        "node 1", "host 1", "cpu", None
    ]  # fmt: skip
