"""The stages of a study as events of the progress: what begins, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from imbtune.data.splits import Splits
from imbtune.metrics.metric import Metric
from imbtune.metrics.number_text import as_text
from imbtune.metrics.predictions import ClassCounts
from imbtune.progress.run_events import FINALS, RUNS, TRIALS, RunEnded, StageStarted, WorkEnded
from imbtune.progress.words import starting
from imbtune.report.wording import duration
from imbtune.study.data_size import ScoreScale, class_counts, score_scale
from imbtune.study.evidence import is_above
from imbtune.study.hints import resume_command
from imbtune.study.outcome import SearchOutcome
from imbtune.study.records import COMPLETE, STOPPED, FinalRecord, TrialRecord, counted
from imbtune.study.request import SearchRequest
from imbtune.tuning.execution.trial_progress import TrialProgress
from imbtune.tuning.finals import final_ended, final_runs, finalists, fresh_seeds
from imbtune.tuning.messages import TrialSpec
from imbtune.tuning.session import Session
from imbtune.tuning.study_writer import trial_ended
from imbtune.tuning.worker.trial_runner import WorkerSettings


def begin(session: Session, stage: StageStarted) -> None:
    """Report that a stage begins, and that its workers start, during which nothing else is said."""
    session.reporter.tell(stage)
    if session.reporter.progress.is_starting:
        session.reporter(starting(session.reporter.progress.workers))


def trials_stage(session: Session, before: Sequence[TrialRecord]) -> StageStarted:
    """The trials of a search.

    Args:
        before: trials that the study has; those that were interrupted are trained on.
    """
    request = session.request
    budgets = tuple(request.budgets)
    ended = [record for record in before if record.state != STOPPED]
    preset = bool(request.finalists and request.space.presets())  # if no finalist is the best one
    found = _stage(
        session,
        TRIALS,
        request.trials,
        [trial_ended(record, record.ended) for record in ended],
        budgets,
        request.space.rungs.eta if len(budgets) > 1 else None,
        (request.finalists + preset) * request.final_seeds,
    )
    return replace(found, preset_finals=preset * request.final_seeds)


def finals_stage(session: Session, total: int, finals: Sequence[FinalRecord]) -> StageStarted:
    """The finals of a search.

    Args:
        total: final runs in all.
        finals: those that the study has.
    """
    budget, now = session.request.budgets[-1], session.reporter.now()
    earlier = [final_ended(final, budget, now) for final in finals]
    seeds = fresh_seeds(session.request.seed, session.request.final_seeds)
    return replace(_stage(session, FINALS, total, earlier, (budget,)), fresh_seeds=tuple(seeds))


def runs_stage(session: Session, total: int, earlier: Sequence[RunEnded]) -> StageStarted:
    """The runs of a calibration or a comparison, none of which is stopped."""
    return _stage(session, RUNS, total, earlier, tuple(session.request.budgets))


def has_trials_left(request: SearchRequest, records: Sequence[TrialRecord]) -> bool:
    """Whether some trials have not started yet, or were interrupted."""
    return len(records) < request.trials or any(r.state == STOPPED for r in records)


def left_final_runs(
    request: SearchRequest,
    splits: Splits,
    records: list[TrialRecord],
    finals: list[FinalRecord],
) -> list[TrialSpec]:
    """The final runs that are left to train; none where no trial is better than chance."""
    chance = scale_of(request, splits).chance
    if not any(
        r.state == COMPLETE and r.score is not None and is_above(r.score, chance) for r in records
    ):
        return []
    chosen = finalists(records, request.finalists, request.space.objectives)
    return final_runs(chosen, fresh_seeds(request.seed, request.final_seeds), finals)


def scale_of(request: SearchRequest, splits: Splits) -> ScoreScale:
    """How a score on the validation images is to be read."""
    scale = score_scale(request.space.objective, _counts(splits))
    assert scale, "check_request has checked that the objective is defined"
    return scale


def named_objectives(request: SearchRequest, splits: Splits) -> list[Metric]:
    """The metrics of a search, which say their classes by name."""
    return [metric.named(_counts(splits)) for metric in request.space.objectives]


def _counts(splits: Splits) -> ClassCounts:
    """The training and validation images of each class."""
    validation_K = splits.held_out.counts(len(splits.classes))
    return class_counts(splits.classes, splits.counts(), validation_K)


def trial_progress(
    session: Session,
    name: Callable[[TrialSpec], str],
    worker_settings: WorkerSettings,
    cutoff: Callable[[int], float | None] | None = None,
) -> TrialProgress:
    """What reports the runs of a stage.

    Args:
        name: of a run.
        cutoff: of ASHA, by `rung_time`; None where nothing is stopped.
    """
    eta, last = session.request.space.rungs.eta, len(session.request.budgets) - 1

    def cutoff_at(rung: int) -> float | None:
        return cutoff(eta**rung) if cutoff and rung < last else None

    return TrialProgress(session.reporter, name, session.splits, worker_settings, cutoff_at)


def ending(outcome: SearchOutcome) -> str:
    """How a search ended, in one line."""
    ended, counts = counted(outcome.records)
    word = "search interrupted after" if outcome.interrupted else "search ended:"
    took = "" if outcome.seconds is None else f" in {duration(outcome.seconds)} of wall time"
    line = f"{word} {ended} trial{'s' * (ended != 1)}{took} ({counts})"
    if outcome.interrupted:
        return f"{line}; to go on: {resume_command(outcome.path)}"
    winner, evidence = outcome.winner, outcome.evidence
    if winner is None:
        return f"{line}; no winner"
    score = f"{as_text(winner.score or 0.0)} in one run"
    if evidence:
        score = (
            f"{as_text(evidence.mean)} over {evidence.seeds} fresh seed{'s' * (evidence.seeds > 1)}"
        )
    return f"{line}; winner: trial {winner.number}, {score}"


def work_ended(outcome: SearchOutcome, now: float) -> WorkEnded:
    """How a search ended, as an event of the progress."""
    found = WorkEnded(now, ending(outcome), outcome.interrupted, outcome.path)
    if outcome.winner is None or outcome.interrupted:
        return found
    found = replace(found, winner=outcome.winner.number, score=outcome.winner.score)
    if (sure := outcome.evidence) is None:
        return found
    found = replace(found, score=sure.mean, score_corrected=sure.mean_corrected)
    return replace(found, low=sure.low, high=sure.high, seeds=sure.seeds)


def _stage(
    session: Session,
    stage: str,
    total: int,
    earlier: Sequence[RunEnded],
    budgets: tuple[int, ...],
    eta: int | None = None,
    finals: int = 0,
) -> StageStarted:
    request, splits = session.request, session.splits
    objectives = named_objectives(request, splits)
    return StageStarted(
        session.reporter.now(),
        stage,
        total,
        request.space.name,
        request.path,
        session.resources.concurrent,
        budgets,
        eta,
        ", ".join(metric.score_name for metric in objectives),
        scale_of(request, splits).error,
        resume_command(request.path),
        finals,
        tuple(earlier),
        ranked_by=objectives[0].score_name if len(objectives) > 1 else "",
    )
