"""The messages between searcher, workers and driver, and how Ray Tune carries them.

    OptunaSearcher ── TrialSpec ──► worker ── TrialReport ──► scheduler, searcher, writer

Ray Tune passes dictionaries. Only this module makes and reads them: `to_tune`, `from_tune`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbtune.registry import Value
from imbtune.study.records import Machine

TuneDict = dict[str, Any]  # a trial's config, or a result, as Ray Tune has it

SPEC, REPORT = "spec", "report"  # the keys of our message in a config and in a result
RUNG_TIME, SCORE = "rung_time", "score"  # what ASHA reads of a result

MetricValues = Mapping[str, float | None]  # by name, in its own range; None: undefined


@dataclass(frozen=True)
class TrialSpec:
    """What a worker trains: one trial, or several trials on one trunk.

    Trials can share a trunk if they differ only in cool-down-only settings
    (:mod:`imbtune.config.cooldown_only`). For Ray Tune they are one trial. Each sequence has an
    entry per trial.

    Attributes:
        number: of the trunk, which is that of its first trial.
        preset: name of the first trial's preset, or None.
        trials: the trials' numbers.
        settings: the trials' complete settings.
        reached_budget: epochs of the last rung that all of them were scored at; 0 for none.
        images: image passes until then.
        seconds: of training until then.
        trained_epochs: trunk epochs in the checkpoint to go on from; 0 without one.
        without_rungs: whether the full budget is trained without a score before its end.
        with_predictions: whether the predictions of the validation images are reported.
    """

    number: int
    preset: str | None
    trials: Sequence[int]
    settings: Sequence[Mapping[str, Value]]
    reached_budget: int
    images: Sequence[int]
    seconds: Sequence[float]
    trained_epochs: int
    without_rungs: bool
    with_predictions: bool = False

    @classmethod
    def single_run(
        cls,
        number: int,
        settings: Mapping[str, Value],
        without_rungs: bool,
        preset: str | None = None,
        with_predictions: bool = False,
    ) -> TrialSpec:
        """One configuration, trained from its start."""
        start = [dict(settings)], 0, [0], [0.0], 0
        return cls(number, preset, [number], *start, without_rungs, with_predictions)

    def to_tune(self) -> TuneDict:
        """As the config of a Tune trial."""
        return {SPEC: self}

    @staticmethod
    def from_tune(config: TuneDict) -> TrialSpec:
        """From the config of a Tune trial."""
        spec: TrialSpec = config[SPEC]
        return spec


@dataclass(frozen=True)
class EpochReport:
    """One epoch of a trial, scored on the validation images.

    Attributes:
        trial: its number; on a trunk, that of the first trial.
        epoch: epochs trained until here, this one included; from 1.
        phase: `trunk` or `cooldown`.
        budget: epochs of the run that it belongs to: which rung's cool-down.
        lr: the learning rate of its last step.
        loss: the mean training loss.
        metrics: by name.
        recall_K: recall of each class, NaN where it has no validation image.
        time: when it ended, in seconds since 1970 (UTC).
    """

    trial: int
    epoch: int
    phase: str
    budget: int
    lr: float
    loss: float
    metrics: MetricValues
    recall_K: Sequence[float]
    time: float


@dataclass(frozen=True, eq=False)
class ImagePredictions:
    """What a model predicts for each of the M validation images.

    Attributes:
        predicted_M: class indices.
        logits_MK: float32 logits whose softmax is the probability; None where they are too many.
        without_groups: the score without each group of the images
            (:mod:`imbtune.metrics.score_error`).
    """

    predicted_M: NDArray[np.int32]
    logits_MK: NDArray[np.float32] | None
    without_groups: Sequence[float]


@dataclass(frozen=True)
class RungReport:
    """A trial's finished model at a rung.

    Attributes:
        trial: its number.
        kind: of the rung: `cooldown`, `compressed` or `prefix`.
        budget: epochs of the model that was scored.
        score: the objective, on the validation images; higher is better.
        images: image passes of the trial so far. Of several trials on a trunk, the first one has
            the trunk's, the others those of their cool-downs alone.
        metrics: by name.
        recall_K: recall of each class.
        margins: mean margins of each class (K,) by column name; empty below the full budget.
        node: Ray's ID of the machine.
        seconds: of training so far, shared out as `images` are.
        threads: CPU threads, on which the last bits of a score depend.
        confusion: at the full budget, label, prediction and count of each pair of classes that
            occurs, one after the other; None below it.
        score_error: standard error of the score, from the number of images.
        predictions: where the trial asks for them.
    """

    trial: int
    kind: str
    budget: int
    score: float
    images: int
    metrics: MetricValues
    recall_K: Sequence[float]
    margins: Mapping[str, Sequence[float]]
    node: str
    seconds: float
    threads: int
    confusion: Sequence[int] | None = None
    score_error: float | None = None
    predictions: ImagePredictions | None = None


@dataclass(frozen=True)
class TrialReport:
    """A report of a worker: some epochs, and a rung if one was reached.

    Attributes:
        epochs: since the last report.
        rung: one entry for each trial of the trunk that has not diverged; empty between rungs.
        rung_index: of the rung, from 0; None between rungs.
        is_last: whether nothing is left to train.
        machine: on which it is trained.
        started: when this worker began to train it, in seconds since 1970 (UTC).
        diverged: trials that diverged since the last report, with the reason by their number. The
            other trials of the trunk go on.
        is_saved: whether a checkpoint was written since the last report, other than at a rung.
        warnings: of something that went wrong and does not change the result, in one line each.
        trained: epochs trained so far, of a run that does not report them; else 0.
        loss: mean training loss of the last of these epochs, about ten times in a run; else None.
    """

    epochs: Sequence[EpochReport]
    rung: Sequence[RungReport]
    rung_index: int | None
    is_last: bool
    machine: Machine
    started: float
    diverged: Mapping[int, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    is_saved: bool = False
    trained: int = 0
    loss: float | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the trial, with all of its trunk, ended because it diverged."""
        return self.is_last and bool(self.diverged) and not self.rung

    def scores(self) -> list[float]:
        """The scores of the models that are finished with this report; empty between rungs."""
        return [rung.score for rung in self.rung]

    def to_tune(self, eta: int) -> TuneDict:
        """As the result of a Tune trial; a rung has the score of its best trial.

        Args:
            eta: η of the rungs; ASHA's milestones are its powers.
        """
        result: TuneDict = {REPORT: self, "done": self.is_last}
        if self.rung_index is not None:
            result |= {
                RUNG_TIME: eta**self.rung_index,
                SCORE: max(rung.score for rung in self.rung),
            }
        return result

    @staticmethod
    def from_tune(result: TuneDict) -> TrialReport:
        """From the result of a Tune trial."""
        report: TrialReport = result[REPORT]
        return report
