"""One search, from its request to its winner; and one that was cut off, from its last rung."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.study import Study

from imbtune.config import PLAIN, TrainConfig
from imbtune.results.store import Store
from imbtune.results.tables import ParquetSink, Sink
from imbtune.results.wandb import WandbSink
from imbtune.search import checkpoints
from imbtune.search.cluster import connected
from imbtune.search.evidence import decide
from imbtune.search.finals import (
    FinalsRecorder,
    final_runs,
    finalists,
    fresh_seeds,
    known_finals,
)
from imbtune.search.fit import GivenRuns, fit
from imbtune.search.following import check_followed
from imbtune.search.journal import Journal, open_journal, settle, told_rungs, trial_records
from imbtune.search.recorder import Recorder
from imbtune.search.records import STOPPED, FinalRecord, SearchOutcome, TrialRecord
from imbtune.search.request import SEARCH, SearchRequest
from imbtune.search.resume import restore_tables
from imbtune.search.scheduler import RungScheduler
from imbtune.search.searcher import OptunaSearcher
from imbtune.search.setup import Say, Session, check_request, find_resources, headline, new_store
from imbtune.search.space import SearchSpace
from imbtune.search.study_files import (
    best_yaml,
    check_purpose,
    check_same_data,
    read_study,
    write_study,
)
from imbtune.slots import SLOTS


def run_search(request: SearchRequest, say: Say) -> SearchOutcome:
    """Check everything, search, write the study, return the winner.

    Raises:
        ImbtuneError: before anything starts: the data, the study's place, the resources.
    """
    started = time.monotonic()
    store = new_store(request)
    splits = check_request(request)
    check_followed(request, splits, say)
    with connected(request.address):
        resources = find_resources(request, say)
        store.create()
        write_study(store, request, splits, resources)
        say(headline(request, splits, resources))
        for note in splits.notes:
            say(note)
        return _search(Session(request, store, splits, resources, say, started))


def resume_search(
    place: str, changes: Mapping[str, Any], say: Say
) -> tuple[SearchRequest, SearchOutcome]:
    """Go on with a study that was cut off: the same trials, to the same total.

    Args:
        changes: fields of the request that are for this machine and time: resources, address,
            data, time_budget.

    Raises:
        ImbtuneError: no study there, one that another process searches, other data.
    """
    started = time.monotonic()
    request, content = read_study(place)
    check_purpose(request, SEARCH)
    request = replace(request, **changes)
    store = Store(place)
    splits = check_request(request)
    check_same_data(content, splits)
    with connected(request.address):
        resources = find_resources(request, say)
        say(headline(request, splits, resources))
        return request, _search(Session(request, store, splits, resources, say, started))


def _search(session: Session) -> SearchOutcome:
    """The trials, then the finals, then best.yaml. What the study has already is not done again."""
    request, store = session.request, session.store
    with open_journal(store, request.name) as journal:
        records = _trials(session, journal)
        cut_off = len(records) < request.trials or any(r.state == STOPPED for r in records)
        out_of_time = bool(
            request.time_budget and time.monotonic() - session.started >= request.time_budget
        )
        finals: list[FinalRecord] = known_finals(store)
        if (cut_off and not out_of_time) or not _finals(session, records, finals):
            cut_off, finals = True, []  # scores of some seeds alone would favour the lucky
        else:
            cut_off = False
        winner, baseline = decide(records, finals)
        outcome = SearchOutcome(
            store.place,
            records,
            winner,
            baseline,
            time.monotonic() - session.started,
            finals,
            cut_off,
        )
        if winner:
            store.write("best.yaml", best_yaml(request, outcome).encode())
        return outcome


def _trials(session: Session, journal: Journal) -> list[TrialRecord]:
    """Search until there are as many trials as asked for; all of the study's trials."""
    request, store, study = session.request, session.store, journal.study
    budgets, eta = request.budgets, request.space.rungs.eta
    scheduler = RungScheduler(budgets, eta, request.rescue, request.seed)
    settle(study, scheduler.replay(told_rungs(study)), budgets[-1])
    before = _records(session, study, scheduler)
    restore_tables(store, knob_types(request.space), before, request)
    if len(before) == request.trials and all(r.state != STOPPED for r in before):
        return before
    searcher = OptunaSearcher(
        study,
        request.space,
        request.trials,
        request.seed,
        budgets[-1],
        request.sampler,
        lambda trunk: checkpoints.trained_epochs(store, trunk),
    )
    ended = sum(record.state != STOPPED for record in before)
    recorder = Recorder(
        journal, store, request.space, request.seed, request.trials, ended, scheduler.rescued,
        session.say,
    )  # fmt: skip
    recorder.sinks += _sinks(store, request, recorder)
    try:
        fit(
            session.splits,
            session.course(request.rungs_kind, keeps=True),
            session.resources,
            searcher,
            request.trials,
            recorder,
            scheduler,
            request.time_budget,
        )
    finally:
        records = _records(session, study, scheduler)
        recorder.close([record for record in records if record.state == STOPPED])
    return records


def _records(session: Session, study: Study, scheduler: RungScheduler) -> list[TrialRecord]:
    return trial_records(study, session.request.space, session.request.seed, scheduler.rescued)


def _finals(session: Session, records: list[TrialRecord], finals: list[FinalRecord]) -> bool:
    """Train the finalists that `finals` lacks, and add them; whether all of them ended well."""
    request = session.request
    chosen = finalists(records, request.finalists)
    runs = final_runs(chosen, fresh_seeds(request.seed, request.final_seeds), finals)
    if runs:
        total = len(runs) + len(finals)
        session.say(f"\nFinals: {len(chosen)} trials with {request.final_seeds} fresh seeds each")
        recorder = FinalsRecorder(session.store, finals, total, session.say)
        course = session.course(request.rungs_kind, keeps=False)
        fit(session.splits, course, session.resources, GivenRuns(runs), len(runs), recorder)
        return len(finals) + recorder.failed == total
    return True


def _sinks(store: Store, request: SearchRequest, recorder: Recorder) -> list[Sink]:
    sinks: list[Sink] = [ParquetSink(store, knob_types(request.space))]
    if request.wandb != "off":
        folder = store.local or Path.cwd()
        sinks.append(
            WandbSink(request.space.name, request.name, request.wandb, folder, recorder.settings)
        )
    return sinks


def knob_types(space: SearchSpace) -> dict[str, type]:
    """The type of every setting that a trial of the space may have, in the order of the slots."""
    flats = [space.base().flat(), *(space.preset(name).flat() for name in space.presets())]
    for slot in SLOTS:
        ranges = [knob for knob in space.knobs if knob.key == slot]
        names = ranges[0].choices if ranges else ()
        flats += [TrainConfig.from_settings({slot: name}).flat() for name in names]
    types = {key: type(value) for flat in flats for key, value in flat.items()}
    order = [*SLOTS, *PLAIN]
    return dict(sorted(types.items(), key=lambda item: order.index(item[0].partition(".")[0])))
