"""Ray Tune's searchers as typed messages: what to train next, and what is trained again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from ray.tune.search import Searcher

from imbtune.tuning.messages import TrialReport, TrialSpec, TuneDict


class SpecSearcher(Searcher, ABC):
    """A Ray Tune searcher that suggests TrialSpecs. It has no state for Ray to save.

    Ray Tune says only that a trial ended with an error.
    :class:`imbtune.tuning.execution.events.TrialEvents` finds out why, and then calls `train_again`
    or `give_up`.
    """

    def __init__(self) -> None:
        super().__init__(metric="score", mode="max")
        self._suggested: dict[str, TrialSpec] = {}  # the running trials, by Ray's name for them

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()  # Tune pickles what a Tuner holds, but nothing reads it

    @abstractmethod
    def next_spec(self) -> TrialSpec | None:
        """What to train next, or None where nothing is left."""

    def reported(self, spec: TrialSpec, report: TrialReport) -> None:
        """A worker reported epochs, and perhaps a rung."""

    def completed(self, spec: TrialSpec) -> None:
        """The trial finished its last rung, or the scheduler stopped it."""

    @abstractmethod
    def again(self, spec: TrialSpec) -> None:
        """Suggest the trial again: its worker was lost."""

    def failed(self, spec: TrialSpec, error: str) -> None:
        """The trial failed for good; `error` is one line."""

    def suggest(self, trial_id: str) -> Any:
        """The next spec as Ray Tune wants it."""
        spec = self.next_spec()
        if spec is None:  # a running trial may have to be trained again
            return None if self._suggested else Searcher.FINISHED
        self._suggested[trial_id] = spec
        return spec.to_tune()

    def on_trial_result(self, trial_id: str, result: TuneDict) -> None:
        self.reported(self._suggested[trial_id], TrialReport.from_tune(result))

    def on_trial_complete(
        self, trial_id: str, result: TuneDict | None = None, error: bool = False
    ) -> None:
        if not error:
            if result:  # the result that ends a trial comes here alone
                self.on_trial_result(trial_id, result)
            self.completed(self._suggested.pop(trial_id))

    def train_again(self, trial_id: str) -> None:
        """Suggest a trial again that ended with an error."""
        self.again(self._suggested.pop(trial_id))

    def give_up(self, trial_id: str, error: str) -> None:
        """End a trial that ended with an error; `error` is one line."""
        self.failed(self._suggested.pop(trial_id), error)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the study's storage is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the study's storage is the record."""


class ListSearcher(SpecSearcher):
    """Suggests the specs of a list, one after another."""

    def __init__(self, specs: Iterable[TrialSpec]) -> None:
        super().__init__()
        self._specs = list(specs)

    def next_spec(self) -> TrialSpec | None:
        """The next spec of the list."""
        return self._specs.pop(0) if self._specs else None

    def again(self, spec: TrialSpec) -> None:
        """Suggest it next."""
        self._specs.insert(0, spec)
