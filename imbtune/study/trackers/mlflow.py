"""Shows a study's runs in MLflow: a run for the study, and in it one for each training."""

from __future__ import annotations

import logging
import os
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from imbtune.progress import Log
from imbtune.study.records import STOPPED
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers.runs import Run, TrackedStudy, Values, failed

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID = "imbtune.run"  # a tag, by which a resumed search finds its runs
PARENT, NAME = "mlflow.parentRunId", "mlflow.runName"  # MLflow's own tags
AT_ONCE = 100  # parameters in one request, MLflow's limit
MOST_RUNS = 1000  # in one answer


class MlflowTracker:
    """Writes to $MLFLOW_TRACKING_URI: a folder, a database or a server. An epoch is a step.

    The experiment is $MLFLOW_EXPERIMENT_NAME, or named after the space.
    """

    title = "MLflow"
    tell: Log

    def __init__(self, study: TrackedStudy) -> None:
        self._study = study
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self.where = f"its tracking server is {uri}" if uri else _how_to_see()
        self._client: MlflowClient | None = None
        self._experiment, self._parent_id = "", ""
        self._ids: dict[str, str] = {}  # MLflow's, of the open runs

    def begin(self, run: Run) -> int:
        """Open the run that this training has, or a new one in the study's."""
        parent = self._parent()
        number, known = self._find(run.name, parent)
        self._ids[run.name] = number
        if known:
            self._there.update_run(number, "RUNNING")
            return len(self._there.get_metric_history(number, "epoch"))
        from mlflow.entities import Param

        settings = [Param(key, str(value)) for key, value in run.flat().items()]
        for start in range(0, len(settings), AT_ONCE):
            self._there.log_batch(number, params=settings[start : start + AT_ONCE])
        return 0

    def epoch(self, run: Run, step: int, row: Row, values: Values) -> None:
        """Add a point to each curve."""
        when = round(row["time"].timestamp() * 1000)
        self._log(run, {**values, "epoch": row["epoch"]}, row["epoch"], when)

    def end(self, run: Run, state: str, row: Row, values: Values) -> None:
        """Add the results, and end the run."""
        results = {f"result/{name}": value for name, value in values.items()}
        self._log(run, results, int(values.get("budget", 0)), round(time.time() * 1000))
        self._there.set_tag(self._ids[run.name], "state", state)
        status = "KILLED" if state == STOPPED else "FAILED" if failed(state) else "FINISHED"
        self._there.set_terminated(self._ids.pop(run.name), status)

    def report(self, path: Path) -> None:
        """Add the report to the files of the study's run."""
        self._there.log_artifact(self._parent(), str(path))

    def close(self) -> None:
        """End the runs that are open, and the study's."""
        for name in list(self._ids):
            self._there.set_terminated(self._ids.pop(name), "KILLED")
        if self._client:
            self._there.set_terminated(self._parent(), "FINISHED")

    def leave(self) -> None:
        """Does nothing: it has no process of its own."""

    @property
    def _there(self) -> MlflowClient:
        """MLflow's client; the import takes a second."""
        if self._client is None:
            from mlflow import MlflowClient

            for name in ("mlflow", "alembic"):  # about the tables of a new database
                logging.getLogger(name).setLevel(logging.WARNING)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._study.request.space.name
            client = MlflowClient()
            found = client.get_experiment_by_name(name)
            self._experiment = found.experiment_id if found else client.create_experiment(name)
            self._client = client
        return self._client

    def _parent(self) -> str:
        """MLflow's ID of the study's run."""
        if not self._parent_id:
            self._parent_id, known = self._find("study", None)
            if known:
                self._there.update_run(self._parent_id, "RUNNING")
                self._end_killed()
        return self._parent_id

    def _end_killed(self) -> None:
        """End the runs that a killed process has left open; `begin` opens those that go on."""
        left = f"tags.`{PARENT}` = '{self._parent_id}' and attributes.status = 'RUNNING'"
        for run in self._there.search_runs([self._experiment], left, max_results=MOST_RUNS):
            self._there.set_terminated(run.info.run_id, "KILLED")

    def _find(self, name: str, parent: str | None) -> tuple[str, bool]:
        """The run with this name, and whether it was there before."""
        client = self._there
        if name in self._ids:
            return self._ids[name], True
        tag = f"{self._study.id}-{name}"
        found = client.search_runs([self._experiment], f"tags.`{ID}` = '{tag}'", max_results=1)
        if found:
            return str(found[0].info.run_id), True
        title = f"{self._study.name}-{name}" if parent else self._study.name
        tags = {ID: tag, NAME: title} | ({PARENT: parent} if parent else {})
        created = client.create_run(self._experiment, tags=tags, run_name=title)
        return str(created.info.run_id), False

    def _log(self, run: Run, values: Values, step: int, when: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, when, step) for name, value in values.items()]
        self._there.log_batch(self._ids[run.name], metrics=metrics)


def _how_to_see() -> str:
    """How to open the pages of MLflow, which its small package, that of the extra, lacks."""
    try:
        metadata.distribution("mlflow")
    except metadata.PackageNotFoundError:
        return "pip install mlflow, then mlflow ui, in this folder"
    return "mlflow ui, in this folder"
