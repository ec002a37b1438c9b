"""`imbtune compare`: trains every row with every seed on Ray's workers, and writes the table.

Each run is tested once, when its model is finished. A run is done when its file in `runs/` exists,
so a resumed comparison trains the others, each from its newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imbtune.comparison.final_runner import FinalReport, FinalWorkerSettings
from imbtune.comparison.result import ComparisonResult, RunKey, run_file, run_row
from imbtune.comparison.rows import make_comparison, read_comparison
from imbtune.config.plugin_record import edits
from imbtune.config.plugins import copy_sources, plugin_parts, register
from imbtune.data.splits import Splits
from imbtune.errors import StudyError
from imbtune.final_training.final_run import load_final_splits
from imbtune.metrics.defined import check_defined
from imbtune.metrics.metric import Metric
from imbtune.metrics.predictions import ClassCounts
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import FAILED, FINISHED, RunEnded, WorkEnded, WorkerLost
from imbtune.storage import Store
from imbtune.study.checkpoints import delete_checkpoints
from imbtune.study.data_size import class_counts
from imbtune.study.evidence import is_above
from imbtune.study.files import (
    check_purpose,
    check_same_data,
    read_study,
    write_study,
)
from imbtune.study.hints import naming_resume, resume_command
from imbtune.study.lock import study_lock
from imbtune.study.request import COMPARISON, TEST, SearchRequest
from imbtune.study.results.comparison_record import FILE, RUNS, Comparison
from imbtune.study.results.layout import counted
from imbtune.study.tables.recover import set_aside_damaged
from imbtune.training.model import check_model_fits
from imbtune.training.plugin_checks import check_plugins
from imbtune.tuning.connected_session import connected_session
from imbtune.tuning.execution.common_failure import CommonFailure
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.execution.run_trials import run_trials
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.new_study import new_folder, new_study
from imbtune.tuning.search_stages import begin, runs_stage, trial_progress
from imbtune.tuning.session import Session, check_machines, new_store

CHECKPOINT_SECONDS = 60.0  # between two checkpoints of a run; one epoch where that takes longer


def run_comparison(
    request: SearchRequest,
    presets: Sequence[str] | None,
    studies: Sequence[str],
    seeds: Sequence[int],
    reference: str | None,
    reporter: Reporter,
) -> ComparisonResult:
    """Train and test presets and studies' winners with the same seeds, and write the table.

    The arguments that are not listed are those of :func:`imbtune.comparison.rows.make_comparison`.

    Args:
        request: space, study and resources.

    Raises:
        ImbtuneError: before anything starts: an invalid option, data or resources.
    """
    comparison = make_comparison(request.space, presets, studies, seeds, reference)
    request = replace(request, rungs=TEST, trials=len(comparison.runs))
    store = new_store(request, reporter, comparison)
    splits = _check(request, comparison)
    with connected_session(request, store, splits, reporter) as session:
        request = session.request
        with new_folder(session), study_lock(store), new_study(session, comparison):
            copy_sources(comparison.imports, store)
            store.write(FILE, comparison.yaml().encode())
            write_study(store, request, splits, vars(session.resources), comparison.imports)
            return _compare(session, comparison)


def resume_comparison(
    path: str, changes: Mapping[str, Any], reporter: Reporter
) -> ComparisonResult:
    """Resume a comparison that was interrupted, or in which runs failed.

    A complete comparison is only read.

    Args:
        path: the comparison's folder or URI.
        changes: as in :func:`imbtune.tuning.run_search.resume_search`.

    Raises:
        ImbtuneError: there is no comparison, another process is running it, or the data differs.
    """
    request, content = read_study(path)
    check_purpose(request, COMPARISON)
    request = replace(request, **changes)
    store = Store(request.path, reporter)
    with naming_resume(request.path), study_lock(store):
        comparison = read_comparison(store)
        for line in edits(content.get("imports"), comparison.imports):
            reporter(line)
        store.remove_leftovers()
        set_aside_damaged(store, RUNS, reporter)
        result = ComparisonResult(path, comparison, request.space)
        if result.done == len(comparison.runs):
            if not result.has_tables():  # it was killed just before it wrote them
                result.write_tables()
            return result
        splits = _check(request, comparison)
        check_same_data(content, splits)
        with connected_session(request, store, splits, reporter) as session:
            return _compare(session, comparison)


def _check(request: SearchRequest, comparison: Comparison) -> Splits:
    """Check options and every row as far as is possible without Ray, and load the data."""
    check_machines(request)
    register(comparison.imports)
    splits = load_final_splits(request.space.base(), request.data_source())
    for row in comparison.rows:
        config = row.config(comparison.seeds[0])
        check_plugins(plugin_parts(config.flat().values()), splits)
        check_model_fits(config, splits)
    check_defined(request.space.objectives, _test_counts(splits), "test images")
    return splits


def _test_counts(splits: Splits) -> ClassCounts:
    """The training and test images of each class."""
    test_K = splits.held_out.counts(len(splits.classes))
    return class_counts(splits.classes, splits.counts(), test_K)


def _compare(session: Session, comparison: Comparison) -> ComparisonResult:
    """Train the runs that are left; write the table when all runs have ended."""
    reporter = session.reporter
    result = _train_and_test(session, comparison)
    state = "interrupted" if result.interrupted else "ended"
    text = f"comparison {state}: {result.done} of {len(comparison.runs)} runs"
    reporter.tell(WorkEnded(reporter.now(), text, result.interrupted, session.store.path))
    return result


def _train_and_test(session: Session, comparison: Comparison) -> ComparisonResult:
    request, store = session.request, session.store
    result = ComparisonResult(store.path, comparison, request.space)
    writer = RunWriter(store, comparison, request.space.objective, session.reporter)
    done = set(store.parts(RUNS))
    left = [
        TrialSpec.single_run(number, row.config(seed).flat(), True, row.preset)
        for number, (row, seed) in enumerate(comparison.runs)
        if run_file(row.name, seed) not in done
    ]
    session.reporter(_headline(session, comparison))
    for note in session.splits.notes:
        session.reporter(note)
    earlier = [
        writer.ended(number, FINISHED)
        for number, (row, seed) in enumerate(comparison.runs)
        if run_file(row.name, seed) in done
    ]
    begin(session, runs_stage(session, len(comparison.runs), earlier))
    searcher = ListSearcher(left)
    settings = _worker_settings(session, comparison)
    chance = result.space.objective.chance(_test_counts(session.splits))
    assert chance is not None, "_check has checked that the objective is defined"
    is_healthy = any(is_above(score, chance) for score in _scores(result))
    common_failure = CommonFailure(len(left), chance, is_healthy)
    run_trials(
        session.splits,
        settings,
        session.resources,
        searcher,
        len(left),
        writer,
        session.limits,
        common_failure=common_failure,
        progress=trial_progress(session, lambda run: writer.name(run.number), settings),
    )
    common_failure.check(request)
    result = replace(result, failures=writer.failures)
    if not result.interrupted:
        if not result.done:
            key, error = next(iter(writer.failures.items()))
            raise StudyError(
                f"all runs of {store.path} failed (the first one, {key[0]} with seed {key[1]}: "
                f"{error}): fix the cause, then run {resume_command(store.path)}"
            )
        result.write_tables()
    return result


def _worker_settings(session: Session, comparison: Comparison) -> FinalWorkerSettings:
    of_search = session.worker_settings("none", with_checkpoints=True)
    changes = {"imports": comparison.imports, "checkpoint_seconds": CHECKPOINT_SECONDS}
    return FinalWorkerSettings(**{**vars(of_search), **changes})


def _scores(result: ComparisonResult) -> list[float]:
    """The score of each run that has finished."""
    objective = result.space.objective
    return [objective.sign * value for value in result.runs[objective.name].tolist()]


def _headline(session: Session, comparison: Comparison) -> str:
    """The lines that a comparison prints before its first run."""
    splits, resources = session.splits, session.resources
    share = f"{resources.cpus} CPU" + (f" + {resources.gpus:g} GPU" if resources.gpus else "")
    epochs = sorted({row.config(0).epochs for row in comparison.rows})
    return (
        f"{session.request.space.name}: {len(splits.train)} training and {len(splits.held_out)} "
        f"test images, {len(splits.classes)} classes\n"
        f"{counted(len(comparison.rows), 'configuration')}, "
        f"{counted(len(comparison.seeds), 'seed')}: {counted(len(comparison.runs), 'run')} of "
        f"{' or '.join(map(str, epochs))} epochs, "
        f"{resources.concurrent} at a time on {share} each\n"
    )


class RunWriter(TrialCallback):
    """Writes each run when it ends, and reports it.

    Attributes:
        failures: the errors of failed runs.
    """

    def __init__(
        self, store: Store, comparison: Comparison, objective: Metric, reporter: Reporter
    ) -> None:
        self._store, self._comparison, self._reporter = store, comparison, reporter
        self._objective = objective
        self.failures: dict[RunKey, str] = {}

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Write the run's file; its checkpoint is then not needed any more."""
        assert isinstance(report, FinalReport)
        row, seed = self._comparison.runs[spec.number]
        for warning in report.warnings:
            self._reporter(f"{row.name}, seed {seed}: {warning}")
        if not report.is_last:
            return
        if report.run is None:
            self.failed(spec, Failure("; ".join(report.diverged.values())))
            return
        columns = run_row(row, report.run, report.images, report.threads, report.machine.node)
        self._store.write_table(f"{RUNS}/{run_file(row.name, seed)}", columns)
        delete_checkpoints(self._store, spec.number)
        score, seconds = report.run.metrics[self._objective.name], report.run.seconds
        self._reporter.tell(self.ended(spec.number, FINISHED, score, seconds))

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Record a failed run; the others go on."""
        row, seed = self._comparison.runs[spec.number]
        self.failures[row.name, seed] = failure.reason
        self._reporter.tell(self.ended(spec.number, FAILED, error=failure.reason))

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """Say that the run goes on from its last checkpoint."""
        self._reporter.tell(WorkerLost(self._reporter.now(), self.name(spec.number), reason))

    def name(self, number: int) -> str:
        """The name of a run."""
        row, seed = self._comparison.runs[number]
        return f"{row.name}, seed {seed}"

    def ended(
        self,
        number: int,
        state: str,
        score: float | None = None,
        seconds: float | None = None,
        error: str | None = None,
    ) -> RunEnded:
        """The end of a run as an event of the progress."""
        row, _ = self._comparison.runs[number]
        return RunEnded(
            self._reporter.now(),
            self.name(number),
            number,
            state,
            score,
            row.config(0).epochs if score is not None else 0,
            f"test {self._objective.name.replace('_', ' ')}" if score is not None else "",
            is_preset=row.preset is not None,
            error=error,
            seconds=seconds,
        )
