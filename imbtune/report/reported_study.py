"""What `Study` can draw and write: its figures, its importances, its report."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.evidence import Evidence

if TYPE_CHECKING:
    from imbtune.report.frames.calibration_frame import CalibrationData
    from imbtune.report.frames.comparison_frames import ComparisonData
    from imbtune.report.plots import StudyPlots
    from imbtune.report.study_data import StudyData


class ReportedStudy(ABC):
    """A study that can be drawn. `Study` is one, which reads the tables that are abstract here."""

    path: str

    @property
    @abstractmethod
    def info(self) -> Mapping[str, Any]:
        """The content of study.yaml."""

    @property
    @abstractmethod
    def trials(self) -> pd.DataFrame:
        """A row per trial that has ended."""

    @property
    @abstractmethod
    def curves(self) -> pd.DataFrame:
        """A row per trial and epoch, one learning curve per trial."""

    @property
    @abstractmethod
    def finals(self) -> pd.DataFrame:
        """A row per finalist and fresh seed."""

    @property
    @abstractmethod
    def evidence(self) -> Evidence | None:
        """How sure the winner is; None without finals."""

    @abstractmethod
    def best_provenance(self) -> dict[str, Any] | None:
        """What best.yaml says of the winner and the best preset."""

    @property
    def plot(self) -> StudyPlots:
        """The figures of the report, as Altair charts: `study.plot.recall_by_size()`.

        The study is read when this property is; keep it in a variable to draw several.

        Raises:
            StudyError: it is a calibration or a comparison.
        """
        from imbtune.report.plots import StudyPlots

        return StudyPlots(self._data())

    @property
    def front(self) -> pd.DataFrame:
        """The Pareto front of a search with several objectives, best first by the first one.

        A row per trial: `trial`, `name`, and the score of each objective under the objective's
        name: the mean over the fresh seeds, or without finals the score of one run.

        Raises:
            StudyError: the study has one objective, or no trial has finished.
        """
        from imbtune.report.frames.front_frame import front_frame

        study = self._data()
        frame = front_frame(study)
        kind = "m" if frame["m0"].notna().any() else "s"
        columns = {f"{kind}{i}": metric.score_name for i, metric in enumerate(study.objectives)}
        found = frame.loc[frame["front"], ["trial", "name", *columns]].rename(columns=columns)
        return found.sort_values(study.objectives[0].score_name, ascending=False, ignore_index=True)

    def importance(self) -> pd.DataFrame:
        """How much each searched knob mattered for reaching the best tenth of the finished trials.

        Returns:
            A row per knob, most important first: `knob`, `value` (they sum to 1), `low` and `high`
            (bootstrapped 90 % interval), `n` (finished trials in which it acts) and `of` (finished
            trials). See :mod:`imbtune.report.importance`.

        Raises:
            StudyError: fewer than 50 trials have finished, of which the best tenth are too few.
        """
        from imbtune.report.importance import importance

        return importance(self._data())

    def report(
        self, path: str | Path | None = None, *, others: Sequence[ReportedStudy] = ()
    ) -> str:
        """Write the report: one HTML file, which opens in any browser without a network.

        Args:
            path: of the file. None for `report.html` in the study's folder; in the current folder
                for several studies, or for one in a bucket.
            others: further studies, to compare them in one report.

        Returns:
            The path.

        Raises:
            StudyError: there is another file; one of several studies is a calibration or a
                comparison, whose report is that of it alone.
        """
        from imbtune.report.write import write_report

        name = None if path is None else str(path)
        return write_report([study._reported() for study in (self, *others)], name)

    def figures(self, folder: str | Path) -> list[str]:
        """Write every figure of the report as PNG and SVG, for a paper or slides.

        Args:
            folder: a new one, or one that an earlier call has written.

        Returns:
            The names of the files; `captions.md` says how to read each figure, and why one is
            missing.

        Raises:
            StudyError: the folder has other files.
        """
        from imbtune.report.write import write_figures

        return write_figures(self._reported(), str(folder))

    def _reported(self) -> StudyData | ComparisonData | CalibrationData:
        """What the report shows, read once."""
        from imbtune.report.frames.calibration_frame import read_calibration_data
        from imbtune.report.frames.comparison_frames import read_comparison_data

        purpose = self.info.get("purpose")
        if purpose == "comparison":
            return read_comparison_data(self.path, self.info)
        if purpose == "calibration":
            return read_calibration_data(self.path, self.info)
        return self._data()

    def _data(self) -> StudyData:
        """What the report of a search shows, read once.

        Raises:
            StudyError: it is a calibration or a comparison.
        """
        from imbtune.report.study_data import StudyData, recorded_rho, trials_with_file
        from imbtune.report.tested import read_tested
        from imbtune.study.lock import activity_of
        from imbtune.study.records import ERRORS, FRONT_FILE, TRACEBACK_FILE
        from imbtune.study.working_journal import ended_in_journal

        store, info = Store(self.path), self.info
        if (purpose := info.get("purpose", "search")) != "search":
            raise StudyError(f"{self.path} is a {purpose}: give the folder of a search")
        confirmed = self.best_provenance() or {}
        evidence = self.evidence
        preset = confirmed.get("best_preset") if evidence else None
        winner = confirmed["winner"]["trial"] if evidence else None
        activity = activity_of(store)
        may_be_killed = not info.get("end") and not activity.locked
        return StudyData(
            path=self.path,
            info=info,
            trials=self.trials,
            curves=self.curves,
            finals=self.finals,
            winner=winner,
            baseline=preset["trial"] if preset else None,
            evidence=evidence,
            tested=read_tested(store, winner),
            activity=activity,
            rung_rho=recorded_rho(info),
            journal_ended=ended_in_journal(store) if may_be_killed else 0,
            front_files=trials_with_file(store, "", FRONT_FILE),
            tracebacks=trials_with_file(store, ERRORS, TRACEBACK_FILE),
        )
