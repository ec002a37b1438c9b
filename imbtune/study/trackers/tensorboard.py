"""Shows a study's runs in TensorBoard: a folder of events per run, and the HParams tab."""

from __future__ import annotations

import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbtune.progress import Log
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers.runs import Run, TrackedStudy, Values, failed

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

FOLDER = "tensorboard"  # in the study's folder
FLUSH_SECONDS = 5  # between two writes of an event file
SHOWN = ("score", "balanced_accuracy", "accuracy", "worst_class", "many", "medium", "few")


class TensorBoardTracker:
    """Writes `tensorboard/RUN/` below the study's folder. An epoch is a step."""

    title = "TensorBoard"
    tell: Log

    def __init__(self, study: TrackedStudy) -> None:
        self._root, self._id = study.folder / FOLDER, study.id
        self.where = f"tensorboard --logdir {shlex.quote(str(self._root))}"
        self._writers: dict[str, EventFileWriter] = {}

    def begin(self, run: Run) -> int:
        """Open a new event file; it takes the place of those of an earlier process."""
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._root / run.name
        shutil.rmtree(folder, ignore_errors=True)
        self._writers[run.name] = EventFileWriter(str(folder), flush_secs=FLUSH_SECONDS)
        settings = {key: value for key, value in run.flat().items() if key != "seed"}
        # the group is the run: without it, TensorBoard shows runs of equal settings as one row
        self._write(run, hparams.hparams_pb(settings, trial_id=f"{self._id}-{run.name}"), 0)
        return 0

    def epoch(self, run: Run, step: int, row: Row, values: Values) -> None:
        """Add a point to each curve."""
        self._scalars(run, values, row["epoch"], row["time"].timestamp())

    def end(self, run: Run, state: str, row: Row, values: Values) -> None:
        """Add what the HParams tab shows, and close the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import Status
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        shown = {f"result/{name}": values[name] for name in SHOWN if name in values}
        self._scalars(run, shown, int(values.get("budget", 0)), time.time())
        status = Status.Value("STATUS_FAILURE" if failed(state) else "STATUS_SUCCESS")
        info = SessionEndInfo(status=status, end_time_secs=time.time())
        about = metadata.create_summary_metadata(HParamsPluginData(session_end_info=info))
        value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about)
        self._write(run, Summary(value=[value]), 0)
        self._writers.pop(run.name).close()

    def report(self, path: Path) -> None:
        """Does nothing: TensorBoard keeps no files."""

    def close(self) -> None:
        """Close the files of the runs that are open."""
        for name in list(self._writers):
            self._writers.pop(name).close()

    def leave(self) -> None:
        """Does nothing: it has no process of its own."""

    def _scalars(self, run: Run, values: Values, step: int, when: float) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        self._write(run, Summary(value=points), step, when)

    def _write(self, run: Run, summary: Any, step: int, when: float | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        when = time.time() if when is None else when
        self._writers[run.name].add_event(Event(wall_time=when, step=step, summary=summary))
