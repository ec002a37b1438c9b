"""Runs a search from its request to its winner, or resumes an interrupted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna.study import Study

from imbtune.config.plugin_record import edits
from imbtune.config.train_config import TrainConfig
from imbtune.data.splits import Splits
from imbtune.errors import ImbtuneError, StudyError, first_line
from imbtune.progress.reporter import Reporter
from imbtune.report.write import NAME as REPORT
from imbtune.spaces.knob_types import knob_types
from imbtune.storage import Store, join
from imbtune.study.checkpoints import checkpoint_epochs
from imbtune.study.evidence import decide, evidence_of, is_above
from imbtune.study.files import (
    best_yaml,
    change_options,
    check_purpose,
    check_same_data,
    how_it_ended,
    read_content,
    read_study,
    record_end,
    write_study,
)
from imbtune.study.front import search_front, write_front
from imbtune.study.hints import naming_resume
from imbtune.study.journal import (
    Journal,
    apply_pending_states,
    open_journal,
    recorded_rungs,
    trial_records,
)
from imbtune.study.lock import wall_seconds
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, ENDED, FAILED, STOPPED, FinalRecord, TrialRecord
from imbtune.study.request import SEARCH, SearchRequest
from imbtune.study.tables.parquet import ParquetSink
from imbtune.study.tables.recover import (
    check_journal,
    check_tables,
    recorded_epochs,
    restore_tables,
    set_aside_damaged,
)
from imbtune.study.trackers.tracking import Tracking, TrialTracking, open_tracking
from imbtune.study.view import Study as StudyView
from imbtune.training.cost.image_passes import run_passes
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.calibration.follow import check_calibration
from imbtune.tuning.connected_session import connected_session
from imbtune.tuning.execution.common_failure import CommonFailure, CommonFailureError
from imbtune.tuning.execution.run_trials import run_trials
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.execution.trial_progress import seed_name, trial_name
from imbtune.tuning.finals import FinalsWriter, known_finals
from imbtune.tuning.new_study import new_folder, new_study
from imbtune.tuning.optuna_searcher import OptunaSearcher
from imbtune.tuning.retry_failed import enqueue_failed, retries
from imbtune.tuning.search_stages import (
    begin,
    finals_stage,
    has_trials_left,
    left_final_runs,
    named_objectives,
    scale_of,
    trial_progress,
    trials_stage,
    work_ended,
)
from imbtune.tuning.session import Session, check_request, headline, new_store
from imbtune.tuning.study_writer import StudyWriter


def run_search(request: SearchRequest, reporter: Reporter) -> SearchOutcome:
    """Check the options, run the trials and finals, and write the study.

    Raises:
        ImbtuneError: before anything starts: an invalid option, data or resources, or a study that
            exists already.
    """
    store = new_store(request, reporter)
    splits = check_request(request)
    check_calibration(request, splits, reporter)
    with connected_session(request, store, splits, reporter) as session:
        request, resources = session.request, session.resources
        with (
            new_folder(session),
            open_journal(store, request.name, len(request.space.objectives)) as journal,
            new_study(session),
        ):
            write_study(store, request, splits, vars(resources))
            reporter("\n".join([headline(request, splits, resources), *splits.notes]))
            return _search(session, journal)


def resume_search(
    path: str, changes: Mapping[str, Any], reporter: Reporter, retry_failed: bool = False
) -> SearchOutcome:
    """Resume an interrupted search. Ray starts only if trials or finals are left to train.

    Args:
        path: the study's folder or URI.
        changes: new values for fields of the request: resources, address, data, time_budget,
            `trials` (a new total) or `finals`.
        retry_failed: train the failed trials again, as new trials that add to the total.

    Raises:
        ImbtuneError: there is no study, another process is searching it, the data differs, the
            journal is older than the tables, or the new total is below the trials that exist.
    """
    before, content = read_study(path)
    check_purpose(before, SEARCH)
    request = replace(before, **{"time_budget": None, **changes})
    store = Store(request.path, reporter)
    check_journal(store)
    with naming_resume(request.path), open_journal(store, request.name) as journal:
        splits = check_request(request)
        check_same_data(content, splits)
        for line in edits(content.get("imports"), request.space.imports):
            reporter(line)
        records = trial_records(journal.study, request.space, request.seed, {})
        check_tables(store, records)
        least = len(records) - retries(journal.study)
        if request.trials < least:
            raise StudyError(
                f"--trials {request.trials}: {least} trials have started already: give {least} or "
                "more"
            )
        _, records = _restore(request, journal.study)
        if retry_failed:
            enqueued = enqueue_failed(journal.study)
            reporter(f"Failed trials to train again (not those that diverged): {enqueued}")
        change_options(store, content, request)
        request = replace(request, trials=request.trials + retries(journal.study))
        if before.time_budget and not request.time_budget:
            reporter("This time the search has no time budget: give --time-budget to set one.")
        set_aside_damaged(store, "finals", reporter)
        finals = known_finals(store)
        if not has_trials_left(request, records) and not left_final_runs(
            request, splits, records, finals
        ):
            both = " and the finals" if request.finals else ""
            reporter(f"All {request.trials} trials{both} of {request.path} are complete.")
            restore_tables(
                store, knob_types(request.space), records, request, reporter, journal.local
            )
            return _outcome(request, store, splits, records, finals)
        with connected_session(request, store, splits, reporter) as session:
            reporter(headline(session.request, splits, session.resources))
            return _search(session, journal)


def _search(session: Session, journal: Journal) -> SearchOutcome:
    """Run the trials, then the finals, and write best.yaml. Work that the study already has is not
    repeated."""
    request, store = session.request, session.store
    record_end(store, None)
    tracking = open_tracking(request, read_content(store.path), store, session.reporter)
    try:
        records, interrupted = _trials(session, journal, tracking)
        finals: list[FinalRecord] = known_finals(store)
        dropped: list[int] = []
        if not interrupted:
            dropped, interrupted = _finals(session, records, finals, tracking)
        if interrupted:
            finals = []  # a mean over only some of the seeds would favour lucky trials
        outcome = _outcome(request, store, session.splits, records, finals, dropped, interrupted)
        session.reporter.tell(work_ended(outcome, session.reporter.now()))
        if not interrupted:
            tracking.report(lambda: _report(session, journal))
        return outcome
    except CommonFailureError:
        record_end(store, FAILED)
        raise
    finally:
        tracking.close()


def _report(session: Session, journal: Journal) -> Path | None:
    """Write the study's report beside the journal's local file, for the trackers."""
    try:
        return Path(StudyView(session.store.path).report(join(journal.local.path, REPORT)))
    except (ImbtuneError, OSError) as error:  # such as another file of that name
        session.reporter(f"the trackers get no report: {first_line(error)}")
        return None


def _outcome(
    request: SearchRequest,
    store: Store,
    splits: Splits,
    records: list[TrialRecord],
    finals: list[FinalRecord],
    dropped: Sequence[int] = (),
    interrupted: bool = False,
) -> SearchOutcome:
    """Choose the winner, write best.yaml, and return how the search ended."""
    ended = [TrainConfig.from_settings(r.settings) for r in records if r.state in ENDED]
    by_number = {r.number: r for r in records if r.state == COMPLETE}
    finished = {
        n: record.score
        for n, record in by_number.items()
        if n not in dropped and record.score is not None
    }
    presets = [number for number, record in by_number.items() if record.preset]
    scale, bounds = scale_of(request, splits), request.space.objective.bounds
    winner, baseline = decide(finished, presets, finals, scale.chance)
    outcome = SearchOutcome(
        request,
        store.path,
        records,
        winner=None if winner is None else by_number[winner],
        baseline=None if baseline is None else by_number[baseline],
        seconds=None,  # until the end is recorded, below
        evidence=evidence_of(finals, winner, baseline, bounds, finished, presets, scale),
        full_images=sum(run_passes(config, splits.counts()) for config in ended),
        finals=finals,
        front=search_front(request, by_number, finals, dropped),
        dropped=dropped,
        interrupted=interrupted,
        chance=scale.chance,
        objectives=named_objectives(request, splits),
    )
    if outcome.winner:
        store.write("best.yaml", best_yaml(request, outcome).encode())
    elif not interrupted:
        store.delete("best.yaml")  # of an earlier end, before more trials or finals
    if not interrupted:
        write_front(store, request, outcome)
    end = how_it_ended(interrupted, has_trials_left(request, records))
    return replace(outcome, seconds=wall_seconds(record_end(store, end)))


def _restore(request: SearchRequest, study: Study) -> tuple[RungScheduler, list[TrialRecord]]:
    """The scheduler with the state of the recorded rungs, and all recorded trials."""
    budgets, eta = request.budgets, request.space.rungs.eta
    scheduler = RungScheduler(budgets, eta, request.never_prune, request.seed)
    stopped = scheduler.replay(recorded_rungs(study))
    apply_pending_states(study, stopped, budgets[-1], request.space.objectives)
    return scheduler, trial_records(study, request.space, request.seed, scheduler.cutoffs)


def _trials(
    session: Session, journal: Journal, tracking: Tracking
) -> tuple[list[TrialRecord], bool]:
    """Run trials until the study has their total number, or the time budget is used up.

    Returns:
        All trials of the study, and whether the user interrupted the search.
    """
    request, store, study = session.request, session.store, journal.study
    scheduler, before = _restore(request, study)
    interrupted = restore_tables(
        store, knob_types(request.space), before, request, session.reporter, journal.local
    )
    if not has_trials_left(request, before):
        return before, False
    searcher = OptunaSearcher(
        study,
        request.space,
        request.trials,
        request.seed,
        request.budgets[-1],
        request.sampler,
        lambda trunk: checkpoint_epochs(store, trunk),
    )
    ended = sum(record.state != STOPPED for record in before)
    writer = StudyWriter(
        journal, store, request.space, request.seed, scheduler.cutoffs,
        session.reporter, recorded_epochs(store, before),
    )  # fmt: skip
    tracking.resumed(interrupted)
    writer.sinks.append(ParquetSink(store, knob_types(request.space), journal.local))
    writer.sinks.append(TrialTracking(tracking, writer.settings, interrupted))
    worker_settings = session.worker_settings(request.rungs_kind, with_checkpoints=True)
    begin(session, trials_stage(session, before))
    chance = scale_of(request, session.splits).chance
    scored = [r.score for r in before if r.state in ENDED and r.score is not None]
    common_failure = CommonFailure(
        request.trials - ended, chance, any(is_above(score, chance) for score in scored)
    )
    try:
        by_user = run_trials(
            session.splits,
            worker_settings,
            session.resources,
            searcher,
            request.trials,
            writer,
            session.limits,
            scheduler,
            request.time_budget,
            common_failure,
            trial_progress(session, trial_name, worker_settings, scheduler.cutoff),
        )
    finally:
        records = trial_records(study, request.space, request.seed, scheduler.cutoffs)
        writer.close(records)
    journal.check()
    common_failure.check(request)
    return records, by_user


def _finals(
    session: Session, records: list[TrialRecord], finals: list[FinalRecord], tracking: Tracking
) -> tuple[list[int], bool]:
    """Train the final runs that are not in `finals`, and append them.

    Returns:
        The numbers of the trials with a failed run, and whether the finals were interrupted.
    """
    request, splits = session.request, session.splits
    runs = left_final_runs(request, splits, records, finals)
    if not runs:
        return [], False
    total, count = len(runs) + len(finals), len({run.number for run in runs})
    done = f"; {len(finals)} of {total} runs are complete" if finals else ""
    session.reporter(
        f"\nFinals: {count} trial{'s' * (count > 1)}, {request.final_seeds} fresh "
        f"seed{'s' * (request.final_seeds > 1)}{' each' * (count > 1)}{done}"
    )
    worker_settings = session.worker_settings(request.rungs_kind, with_checkpoints=False)
    begin(session, finals_stage(session, total, finals))
    writer = FinalsWriter(
        session.store, splits.held_out, finals, request.budgets[-1], session.reporter, tracking
    )
    searcher = ListSearcher(runs)
    run_trials(
        splits,
        worker_settings,
        session.resources,
        searcher,
        len(runs),
        writer,
        session.limits,
        progress=trial_progress(session, seed_name, worker_settings),
    )
    return sorted(set(writer.failures)), len(finals) + len(writer.failures) < total
