"""Sends a study's runs to the trackers that its request names."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError
from imbtune.progress import Log
from imbtune.registry import Value
from imbtune.storage import Store
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Row, epoch_key
from imbtune.study.trackers.background import Background
from imbtune.study.trackers.mlflow import MlflowTracker
from imbtune.study.trackers.runs import Kind, Run, TrackedStudy, Tracker, tracked_study
from imbtune.study.trackers.tensorboard import TensorBoardTracker
from imbtune.study.trackers.wandb import WandbTracker, check_wandb

# Trackers by the field of the request that asks for them, and of those in an extra its package
MAKERS: dict[str, Callable[[TrackedStudy], Tracker]] = {
    "wandb": WandbTracker,
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
}
EXTRAS = ("tensorboard", "mlflow")


def check_trackers(request: SearchRequest) -> None:
    """Check what can be known of the trackers before a search starts, without asking a server.

    Raises:
        ConfigError: a package is missing, W&B has no API key, or it does not accept a name.
    """
    for name in EXTRAS:
        if getattr(request, name) and importlib.util.find_spec(name) is None:
            raise ConfigError(f"--{name} needs {name}: pip install 'imbtune[{name}]'")
    check_wandb(request)


def open_tracking(
    request: SearchRequest, content: Mapping[str, Any], store: Store, log: Log
) -> Tracking:
    """The trackers that a study's request names.

    Args:
        content: of study.yaml.
        store: the study's folder, in which trackers write files; for a study in a bucket they
            write to the current folder.
        log: is called with a line for the user.
    """
    before: dict[str, list[Row]] = {}
    chosen = [name for name in MAKERS if getattr(request, name) not in (False, "off")]
    study = tracked_study(request, content, store.local or Path.cwd())
    trackers = [MAKERS[name](study) for name in chosen]
    for tracker in trackers:
        log(f"{tracker.title}: {tracker.where}")
    return Tracking([Background(tracker, study, before, log) for tracker in trackers], before)


class Tracking:
    """The trackers of a study; none, for most. Nothing that they do can end or slow a search.

    Args:
        trackers: each in a thread of its own.
        before: the rows of epochs that they show when a run begins again, by the run's name.
    """

    def __init__(
        self, trackers: Sequence[Background] = (), before: dict[str, list[Row]] | None = None
    ) -> None:
        self._trackers, self._before = trackers, {} if before is None else before

    def resumed(self, before: Sequence[Row]) -> None:
        """Say which rows of epochs the study had of interrupted trials, before any run begins."""
        for row in before:
            self._before.setdefault(str(row["trial"]), []).append(row)

    def epoch(self, run: Run, row: Row) -> None:
        """Show an epoch of a run; the run is opened where it is new."""
        for tracker in self._trackers:
            tracker.epoch(run, row)

    def again(self, run: Run) -> None:
        """A run is trained from its start once more, to the same values."""
        for tracker in self._trackers:
            tracker.again(run)

    def end(self, run: Run, state: str, row: Row) -> None:
        """Show how a run ended.

        Args:
            state: COMPLETE, PRUNED, FAIL or STOPPED.
            row: of the table of trials or finals.
        """
        for tracker in self._trackers:
            tracker.end(run, state, row)

    def report(self, write: Callable[[], Path | None]) -> None:
        """Keep the study's report.

        Args:
            write: writes it as an HTML file, and returns the file; None where it cannot. It is not
                called without trackers.
        """
        path = write() if self._trackers else None
        if path is not None:
            for tracker in self._trackers:
                tracker.report(path)

    def check(self) -> None:
        """Leave out what failed or hangs. To be called every few seconds."""
        for tracker in self._trackers:
            tracker.check()

    def close(self) -> None:
        """Wait until everything is shown, though not for long; no more follows."""
        for tracker in self._trackers:
            tracker.close()


class TrialTracking:
    """A search's trials as the runs of trackers: a sink of its rows.

    Args:
        settings: settings and preset of the running trials by number, under `preset`. The search
            adds a trial's entry before its first row.
        before: the rows of epochs of interrupted trials that the study had when it was resumed.
    """

    def __init__(
        self,
        tracking: Tracking,
        settings: Mapping[int, Mapping[str, Value | None]],
        before: Sequence[Row] = (),
    ) -> None:
        self._tracking, self._settings = tracking, settings
        self._known = {epoch_key(row) for row in before}

    def epoch(self, row: Row) -> None:
        """Show an epoch; not where it is trained again, since the study had its row before."""
        if epoch_key(row) not in self._known:
            self._tracking.epoch(self._run(row["trial"]), row)

    def trial(self, row: Row) -> None:
        """Show how a trial ended; not one that was interrupted before this process."""
        if row["trial"] in self._settings:
            self._tracking.end(self._run(row["trial"]), row["state"], row)

    def flush(self) -> None:
        """Leave out the trackers that failed or hang; the others show rows by themselves."""
        self._tracking.check()

    def close(self) -> None:
        """Does nothing: the finals may follow."""

    def _run(self, number: int) -> Run:
        settings = dict(self._settings[number])
        preset = settings.pop("preset", None)
        known = {key: value for key, value in settings.items() if value is not None}
        return Run(Kind.TRIAL, number, known, None if preset is None else str(preset))
