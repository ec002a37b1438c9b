"""`imbtune calibrate`: trains random configurations to the end, scored at rungs of every kind."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import optuna
import pyarrow as pa
import yaml

from imbtune.config.plugin_record import edits
from imbtune.config.train_config import TrainConfig
from imbtune.errors import ConfigError, StudyError
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import FAILED, FINISHED, RunEnded, WorkEnded, WorkerLost
from imbtune.seeds import Purpose, derived_seed, trial_seed
from imbtune.storage import Store
from imbtune.study.evidence import is_above
from imbtune.study.files import (
    check_purpose,
    check_same_data,
    read_content,
    read_study,
    write_study,
)
from imbtune.study.hints import naming_resume, resume_command
from imbtune.study.lock import study_lock
from imbtune.study.records import COMPLETE, FAIL, summary
from imbtune.study.request import CALIBRATION, EVERY, SearchRequest
from imbtune.study.results.calibration_result import FILE, Calibration, Score
from imbtune.study.tables.own_files import own_table
from imbtune.study.tables.recover import set_aside_damaged
from imbtune.study.tables.schema import SCORES
from imbtune.study.trackers.runs import Kind, Run
from imbtune.study.trackers.tracking import Tracking, open_tracking
from imbtune.tuning.calibration.follow import basis_of, read_calibration
from imbtune.tuning.calibration.rung_quality import calibrate, mean_costs
from imbtune.tuning.connected_session import connected_session
from imbtune.tuning.execution.common_failure import CommonFailure
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.execution.run_trials import run_trials
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.new_study import new_folder, new_study
from imbtune.tuning.samplers import make_sampler
from imbtune.tuning.search_stages import begin, runs_stage, scale_of, trial_progress
from imbtune.tuning.session import Session, check_request, headline, new_store
from imbtune.tuning.study_writer import epoch_row

SCORES_FOLDER = "scores"
# Trials without a failed run that a calibration needs: at least 6, and at least this share of all
MIN_TRIALS, MIN_SHARE = 6, 0.75

Key = tuple[int, int]  # a run: its trial, and 0 or 1 for the first or second seed


@dataclass(frozen=True, repr=False)
class CalibrationOutcome:
    """How a calibration ended.

    Attributes:
        request: its options.
        path: its folder or URI.
        done: runs that finished.
        runs: the total of runs.
        found: the result; None if the calibration was interrupted.
    """

    request: SearchRequest
    path: str
    done: int
    runs: int
    found: Calibration | None

    def __repr__(self) -> str:
        rungs = "no result yet" if self.found is None else f"rungs: {self.found.advice.rungs}"
        return f"CalibrationOutcome({self.path!r}): {self.done} of {self.runs} runs, {rungs}"


def run_calibration(request: SearchRequest, reporter: Reporter) -> CalibrationOutcome:
    """Train random configurations with two seeds, and compare each rung with the full budget.

    The run with the first seed is scored at the rungs of every kind, the run with the second seed
    only at the full budget.

    Raises:
        ImbtuneError: before anything starts: an invalid option, data or resources.
        StudyError: too many trials failed.
    """
    request = replace(request, sampler="random", rungs=EVERY)
    store = new_store(request, reporter)
    _check_rungs(request)
    splits = check_request(request)
    with connected_session(request, store, splits, reporter) as session:
        request = session.request
        with new_folder(session), study_lock(store), new_study(session):
            write_study(store, request, splits, vars(session.resources))
            return _calibrate(session)


def resume_calibration(
    path: str, changes: Mapping[str, Any], reporter: Reporter
) -> CalibrationOutcome:
    """Resume a calibration that was interrupted, or in which too many trials failed.

    Runs that have their scores are not trained again. A complete calibration is only read.

    Args:
        path: the calibration's folder or URI.
        changes: as in :func:`imbtune.tuning.run_search.resume_search`.

    Raises:
        ImbtuneError: there is no calibration, another process is running it, or the data differs.
    """
    request, content = read_study(path)
    check_purpose(request, CALIBRATION)
    request = replace(request, **changes)
    store = Store(request.path, reporter)
    with naming_resume(request.path), study_lock(store):
        if store.exists(FILE):
            return _outcome(request, store, read_calibration(path, request))
        splits = check_request(request)
        check_same_data(content, splits)
        for line in edits(content.get("imports"), request.space.imports):
            reporter(line)
        store.remove_leftovers()
        set_aside_damaged(store, SCORES_FOLDER, reporter)
        with connected_session(request, store, splits, reporter) as session:
            return _calibrate(session)


def _calibrate(session: Session) -> CalibrationOutcome:
    """Train the runs that have no scores yet, and compute the result when all runs have ended."""
    reporter = session.reporter
    outcome = _train_and_compare(session)
    state = "interrupted" if outcome.found is None else "ended"
    text = f"calibration {state}: {outcome.done} of {outcome.runs} runs"
    reporter.tell(WorkEnded(reporter.now(), text, outcome.found is None, session.store.path))
    return outcome


def _train_and_compare(session: Session) -> CalibrationOutcome:
    request, store = session.request, session.store
    configs = random_configs(request)
    reporter = session.reporter
    tracking = open_tracking(request, read_content(store.path), store, reporter)
    writer = CalibrationWriter(store, configs, reporter, tracking)
    left = [run for run in _runs(request, configs) if _key(run) not in writer.done]
    session.reporter(headline(request, session.splits, session.resources))
    for note in session.splits.notes:
        session.reporter(note)
    begin(session, runs_stage(session, request.runs, writer.earlier()))
    chance = scale_of(request, session.splits).chance
    is_healthy = any(is_above(score.score, chance) for score in writer.scores)
    common_failure = CommonFailure(len(left), chance, is_healthy)
    settings = session.worker_settings(EVERY, with_checkpoints=False)
    try:
        if left:
            run_trials(
                session.splits,
                settings,
                session.resources,
                ListSearcher(left),
                len(left),
                writer,
                session.limits,
                common_failure=common_failure,
                progress=trial_progress(session, lambda run: run_name(_key(run)), settings),
            )
    finally:
        tracking.close()
    common_failure.check(request)
    if len(writer.done) + len(writer.errors) < request.runs:
        return _outcome(request, store, None)
    _check_failed(request, writer.errors)
    costs = functools.partial(mean_costs, configs)
    eta, basis = request.space.rungs.eta, basis_of(request.space, session.splits.fingerprint())
    found = calibrate(writer.scores, costs, eta, basis)
    content = yaml.safe_dump(found.to_dict(), sort_keys=False, allow_unicode=True)
    store.write(FILE, content.encode())
    return _outcome(request, store, found)


def _outcome(request: SearchRequest, store: Store, found: Calibration | None) -> CalibrationOutcome:
    return CalibrationOutcome(
        request, store.path, len(store.parts(SCORES_FOLDER)), request.runs, found
    )


def _check_rungs(request: SearchRequest) -> None:
    """Raise ConfigError if the space has no rung below the full budget."""
    if len(request.budgets) < 2:
        rungs = request.space.rungs
        raise ConfigError(
            f"a full budget of {request.budgets[-1]} epochs with rungs: {{eta: {rungs.eta}, count: "
            f"{rungs.count}}} has no lower rung to calibrate: give more --epochs, or a count of 2 "
            "or more in the space"
        )


def _check_failed(request: SearchRequest, failed: Mapping[Key, str]) -> None:
    """Raise StudyError if so many trials failed that the rest does not represent the space."""
    trials = sorted({number for number, _ in failed})
    if trials and request.trials - len(trials) < max(MIN_TRIALS, MIN_SHARE * request.trials):
        reason = f"trial {trials[0]}: {next(iter(failed.values()))}"
        again = resume_command(request.path)
        if len(trials) == request.trials:  # the same configurations would most likely fail again
            raise StudyError(
                f"all {request.trials} trials of {request.path} failed ({reason}): if the space "
                "has the cause, change it and calibrate under another --name; if the machine or "
                f"the data has it, fix it, then run {again}"
            )
        raise StudyError(
            f"{len(trials)} of {request.trials} trials of {request.path} failed, more than a "
            f"quarter ({reason}): fix the cause, then run {again}"
        )


def _runs(request: SearchRequest, configs: list[TrainConfig]) -> Iterator[TrialSpec]:
    """Each configuration with two seeds; the second run is scored only at the full budget."""
    for number, config in enumerate(configs):
        again = config.replace(seed=derived_seed(request.seed, number, Purpose.CALIBRATION))
        yield TrialSpec.single_run(number, config.flat(), without_rungs=False)
        yield TrialSpec.single_run(number, again.flat(), without_rungs=True)


def random_configs(request: SearchRequest) -> list[TrainConfig]:
    """Configurations drawn uniformly from the space, without presets or a learning sampler."""
    study = optuna.create_study(sampler=make_sampler("random", request.seed))
    space = request.space
    return [space.suggest(study.ask(), trial_seed(request.seed, n)) for n in range(request.trials)]


class CalibrationWriter(TrialCallback):
    """Writes the scores of each run when it ends, and reports it.

    Args:
        tracking: is shown each run, too; None for no trackers.

    Attributes:
        scores: of the runs that finished, including those that the study had before.
        done: the keys of these runs.
        errors: the errors of failed runs, by key.
    """

    def __init__(
        self,
        store: Store,
        configs: list[TrainConfig],
        reporter: Reporter,
        tracking: Tracking | None = None,
    ) -> None:
        self.scores = known_scores(store)
        self.done = {(score.trial, score.seed) for score in self.scores}
        self.errors: dict[Key, str] = {}
        self._running: dict[Key, list[Score]] = {}
        self._store, self._configs, self._reporter = store, configs, reporter
        self._tracking = tracking or Tracking()

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Collect the scores of a rung; write the file of a run when it has ended."""
        number, seed = key = _key(spec)
        for epoch in report.epochs:
            self._tracking.epoch(_tracked(spec), epoch_row(epoch))
        for reason in report.diverged.values():
            self._running.pop(key, None)
            self.failed(spec, Failure(reason))
            return
        mine = self._running.setdefault(key, [])
        mine += [Score(number, seed, rung.kind, rung.budget, rung.score) for rung in report.rung]
        if report.is_last:
            table = pa.Table.from_pylist([vars(score) for score in mine], schema=SCORES)
            self._store.write_table(f"{SCORES_FOLDER}/{number}-{seed}.parquet", table)
            self.scores += self._running.pop(key)
            self.done.add(key)
            last = report.rung[-1]
            row = {**last.metrics, "recall": last.recall_K, "score": last.score}
            row |= {"budget": last.budget, "images": last.images, "seconds": last.seconds}
            self._tracking.end(_tracked(spec), COMPLETE, row)
            self._reporter.tell(self._ended(key, FINISHED, mine[-1].score, last.seconds))

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Record a failed run; its trial is left out of the result."""
        key = _key(spec)
        self.errors[key] = failure.reason
        self._tracking.end(_tracked(spec), FAIL, {})
        self._reporter.tell(self._ended(key, FAILED, error=failure.reason))

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """Forget the scores of a run that is trained again."""
        key = _key(spec)
        self._running.pop(key, None)
        self._tracking.again(_tracked(spec))
        self._reporter.tell(
            WorkerLost(self._reporter.now(), run_name(key), reason, "it is trained again")
        )

    def stepped(self) -> None:
        """Leave out the trackers that failed or hang."""
        self._tracking.check()

    def earlier(self) -> list[RunEnded]:
        """The runs that the study had before."""
        last = {(score.trial, score.seed): score for score in self.scores}
        return [self._ended(key, FINISHED, score.score) for key, score in last.items()]

    def _ended(
        self,
        key: Key,
        state: str,
        score: float | None = None,
        seconds: float | None = None,
        error: str | None = None,
    ) -> RunEnded:
        config = self._configs[key[0]]
        return RunEnded(
            self._reporter.now(),
            run_name(key),
            key[0],
            state,
            score,
            config.epochs if score is not None else 0,
            summary(config.flat()),
            error=error,
            seconds=seconds,
        )


def run_name(key: Key) -> str:
    """The name of a run."""
    return f"trial {key[0]}, seed {'AB'[key[1]]}"


def known_scores(store: Store) -> list[Score]:
    """The scores of the runs that have finished."""
    rows = own_table(store, SCORES_FOLDER, SCORES).select(SCORES.names).to_pylist()
    return [Score(**row) for row in rows]


def _tracked(spec: TrialSpec) -> Run:
    number, seed = _key(spec)
    return Run(Kind.CALIBRATION, number, spec.settings[0], seed=seed)


def _key(spec: TrialSpec) -> Key:
    return spec.number, int(spec.without_rungs)
