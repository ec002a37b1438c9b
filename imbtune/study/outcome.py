"""How a search ended, as its caller receives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from imbtune.metrics.metric import Metric
from imbtune.study.evidence import Evidence
from imbtune.study.records import FinalRecord, TrialRecord, failed_for_good, front_name, kind_of
from imbtune.study.request import SearchRequest


@dataclass(frozen=True)
class FrontTrial:
    """A trial of the Pareto front.

    Attributes:
        trial: its number.
        scores: of each objective: means over fresh seeds, or of one run where there are no finals.
    """

    trial: int
    scores: tuple[float, ...]

    @property
    def file(self) -> str:
        """The name of the file with its configuration."""
        return front_name(self.trial)


@dataclass(frozen=True)
class CommonReason:
    """The most common reason of the failed trials of a search.

    Attributes:
        reason: of the first trial that failed for it.
        trial: the number of that trial.
        count: trials that failed for it; numbers in the text may differ.
        failed: all failed trials.
        has_diverged: whether these trials diverged.
    """

    reason: str
    trial: int
    count: int
    failed: int
    has_diverged: bool

    def __str__(self) -> str:
        if self.failed == 1:
            return f"Trial {self.trial} failed: {self.reason}"
        share = f"{self.count} of {self.failed}, {'such as ' * (self.count > 1)}trial {self.trial}"
        return f"{self.failed} trials failed; most common reason ({share}): {self.reason}"


@dataclass(frozen=True, repr=False)
class SearchOutcome:
    """How a search ended.

    Attributes:
        request: the options of the search.
        path: the study's folder or URI.
        records: its trials, by number.
        winner: the finalist with the best mean over fresh seeds; without finals, the finished
            trial with the best score. None where it is not better than chance.
        baseline: the best preset, by the same measure.
        seconds: wall time from the search's first start to its end, with the time before it was
            resumed; None where the study has not both times.
        evidence: what the finals say of the winner; None without finals.
        full_images: image passes that full runs of all trials in `ENDED` take.
        finals: all final runs.
        front: of a search with several objectives, its Pareto front, best first by the first
            objective; else empty.
        dropped: finalists that lack a seed, because one of their runs failed.
        interrupted: whether it ended before all trials and finals were trained, other than by its
            time budget.
        chance: the score of a model that predicts the same for every image.
        objectives: those of the request, which say their classes by name.
    """

    request: SearchRequest
    path: str
    records: list[TrialRecord]
    winner: TrialRecord | None
    baseline: TrialRecord | None
    seconds: float | None
    evidence: Evidence | None = None
    full_images: int = 0
    finals: list[FinalRecord] = field(default_factory=list)
    front: Sequence[FrontTrial] = ()
    dropped: Sequence[int] = ()
    interrupted: bool = False
    chance: float = 0.0
    objectives: Sequence[Metric] = ()

    def common_failure(self) -> CommonReason | None:
        """The most common reason of the failed trials; None where none failed.

        A trial that has been repeated since without failing does not count.
        """
        failed = failed_for_good(self.records)
        if not failed:
            return None
        kinds = [kind_of(r.failure, r.diverged is not None) for r in failed]
        kind, count = Counter(kinds).most_common(1)[0]
        first = failed[kinds.index(kind)]
        return CommonReason(
            first.failure, first.number, count, len(failed), first.diverged is not None
        )

    def __repr__(self) -> str:
        winner = "no winner" if self.winner is None else f"winner: trial {self.winner.number}"
        end = ", interrupted" if self.interrupted else ""
        trials = f"{len(self.records)} of {self.request.trials} trials"
        return f"SearchOutcome({self.path!r}): {trials}, {winner}{end}"
