"""Finals: the best trials are trained again with fresh seeds.

:mod:`imbtune.study.evidence` chooses the winner by them, and measures how certain it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from imbtune.data.images import Images
from imbtune.metrics.metric import Metric
from imbtune.metrics.pareto import ranked_by_front
from imbtune.metrics.score_error import image_groups
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import FAILED, FINISHED, RunEnded, WorkerLost
from imbtune.seeds import Purpose, derived_seed
from imbtune.storage import Store
from imbtune.study.files import write_traceback
from imbtune.study.records import (
    COMPLETE,
    FAIL,
    FinalRecord,
    TrialRecord,
    confusion_column,
    machine_columns,
    summary,
    utc,
)
from imbtune.study.tables.own_files import own_table
from imbtune.study.tables.schema import FINALS, METRICS, PREDICTIONS
from imbtune.study.trackers.runs import Kind, Run
from imbtune.study.trackers.tracking import Tracking
from imbtune.tuning.execution.events import TrialCallback
from imbtune.tuning.execution.failures import Failure
from imbtune.tuning.messages import ImagePredictions, TrialReport, TrialSpec
from imbtune.tuning.study_writer import epoch_row

PER_TRUNK = 2  # finalists at most, since trials on one trunk are similar


def finalists(
    records: Sequence[TrialRecord], count: int, objectives: Sequence[Metric] = ()
) -> list[TrialRecord]:
    """The best `count` finished trials, and the best finished preset if it is not among them.

    Of several objectives, the best are those of the Pareto front, its ends first and then those
    that are furthest from their neighbours; and if it has fewer, those of the next front. At most
    two trials of a trunk are chosen. The best preset is that of the first objective.
    """
    by_score = sorted(
        (r for r in records if r.state == COMPLETE), key=lambda r: (-(r.score or 0.0), r.number)
    )
    ranked = by_score
    if len(objectives) > 1:
        scores = [record.rungs[-1].scores(objectives) for record in by_score]
        ranked = [by_score[i] for i in ranked_by_front(scores)]
    chosen: list[TrialRecord] = []
    for record in ranked:
        alike = sum(record.trunk == other.trunk for other in chosen)
        if len(chosen) < count and alike < PER_TRUNK:
            chosen.append(record)
    preset = next((r for r in by_score if r.preset), None)
    return [*chosen, preset] if count and preset and preset not in chosen else chosen


def fresh_seeds(study_seed: int, count: int) -> list[int]:
    """Training seeds that no trial of the study has, the same ones for every finalist."""
    return [derived_seed(study_seed, number, Purpose.FINALS) for number in range(count)]


def final_runs(
    chosen: Sequence[TrialRecord], seeds: Sequence[int], done: Sequence[FinalRecord]
) -> list[TrialSpec]:
    """What is left to train: every finalist with every seed, without the runs in `done`."""
    known = {(final.trial, final.seed) for final in done}
    return [
        TrialSpec.single_run(
            record.number,
            {**record.settings, "seed": seed},
            without_rungs=True,
            preset=record.preset,
            with_predictions=True,
        )
        for seed in seeds
        for record in chosen
        if (record.number, seed) not in known
    ]


class FinalsWriter(TrialCallback):
    """Writes each final run when it ends, and reports its score.

    Args:
        images: the validation images.
        done: runs that the study has already; new ones are appended to it.
        budget: epochs of a run.
        reporter: gets how each run ended.
        tracking: is shown each run, too; None for no trackers.

    Attributes:
        failures: the trial number of each run that failed.
    """

    def __init__(
        self,
        store: Store,
        images: Images,
        done: list[FinalRecord],
        budget: int,
        reporter: Reporter,
        tracking: Tracking | None = None,
    ) -> None:
        self._store, self.finals, self._budget, self._reporter = store, done, budget, reporter
        self._images = images
        self._tracking = tracking or Tracking()
        self.failures: list[int] = []

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        """Note a run that failed; the others go on."""
        self.failures.append(spec.number)
        seed, now = int(spec.settings[0]["seed"]), self._reporter.now()
        if failure.traceback:
            write_traceback(self._store, f"final-{spec.number}-{seed}", failure.traceback)
        self._tracking.end(_tracked(spec), FAIL, {})
        run = final_name(spec.number, seed)
        self._reporter.tell(RunEnded(now, run, spec.number, FAILED, None, error=failure.reason))

    def lost(self, spec: TrialSpec, reason: str) -> None:
        """Say that the run is trained again."""
        self._tracking.again(_tracked(spec))
        run = final_name(spec.number, int(spec.settings[0]["seed"]))
        self._reporter.tell(WorkerLost(self._reporter.now(), run, reason, "it is trained again"))

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """Write the score of a run that has ended."""
        for epoch in report.epochs:
            self._tracking.epoch(_tracked(spec), epoch_row(epoch))
        for rung in report.rung:
            seed = int(spec.settings[0]["seed"])
            without = rung.predictions.without_groups if rung.predictions else None
            final = FinalRecord(
                rung.trial, seed, rung.score, rung.metrics, rung.score_error, without
            )
            self.finals.append(final)
            row = {
                **rung.metrics,
                "recall": rung.recall_K,
                **rung.margins,
                "trial": rung.trial,
                "seed": seed,
                "score": rung.score,
                "score_error": rung.score_error,
                "scores_without_groups": without,
                "images": rung.images,
                "started": utc(report.started),
                "ended": utc(time.time()),
                "seconds": rung.seconds,
                "threads": rung.threads,
                **machine_columns(report.machine),
                "confusion": confusion_column(rung.confusion),
            }
            if rung.predictions:  # first: a run whose row in `finals` exists is complete
                self._write_predictions(rung.trial, seed, rung.predictions)
            table = pa.Table.from_pylist([row], schema=FINALS)
            self._store.write_table(f"finals/{rung.trial}-{seed}.parquet", table)
            self._tracking.end(_tracked(spec), COMPLETE, {**row, "budget": rung.budget})
            ended = final_ended(final, self._budget, self._reporter.now())
            name = spec.preset or summary(spec.settings[0])
            is_preset = spec.preset is not None
            self._reporter.tell(
                replace(ended, seconds=rung.seconds, name=name, is_preset=is_preset)
            )
        for reason in report.diverged.values():
            self.failed(spec, Failure(reason))

    def _write_predictions(self, trial: int, seed: int, found: ImagePredictions) -> None:
        """Write what a run predicts for each validation image."""
        table = predictions_table(trial, seed, self._images, found)
        self._store.write_table(f"predictions/{trial}-{seed}.parquet", table)

    def stepped(self) -> None:
        """Leave out the trackers that failed or hang."""
        self._tracking.check()


def predictions_table(trial: int, seed: int, images: Images, found: ImagePredictions) -> pa.Table:
    """What a final run predicts: a row for each image."""
    count = len(images)
    logits = found.logits_MK
    columns = {
        "trial": np.full(count, trial),
        "seed": np.full(count, seed),
        "image": pa.nulls(count) if images.names is None else images.names,
        "label": images.labels,
        "predicted": found.predicted_M,
        "group": image_groups(images.labels),
        "logits": pa.nulls(count)
        if logits is None
        else pa.ListArray.from_arrays(
            np.arange(0, logits.size + 1, logits.shape[1], dtype=np.int32), logits.ravel()
        ),
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in PREDICTIONS]
    return pa.table(arrays, schema=PREDICTIONS)


def _tracked(spec: TrialSpec) -> Run:
    (settings,) = spec.settings
    return Run(Kind.FINAL, spec.number, settings, spec.preset, int(settings["seed"]))


def final_name(trial: int, seed: int) -> str:
    """The name of a final run."""
    return f"trial {trial}, seed {seed}"


def final_ended(final: FinalRecord, budget: int, now: float) -> RunEnded:
    """The end of a final run as an event of the progress."""
    run = final_name(final.trial, final.seed)
    return RunEnded(now, run, final.trial, FINISHED, final.score, budget)


def known_finals(store: Store) -> list[FinalRecord]:
    """The final runs that a study has."""
    found = own_table(store, "finals", FINALS)
    names = [name for name, _ in METRICS if name != "recall" and name in found.column_names]
    errors = [n for n in ("score_error", "scores_without_groups") if n in found.column_names]
    rows = found.select(["trial", "seed", "score", *errors, *names]).to_pylist()
    return [
        FinalRecord(
            row["trial"],
            row["seed"],
            row["score"],
            {name: row[name] for name in names if row[name] is not None},
            **{name: row[name] for name in errors},
        )
        for row in rows
    ]
