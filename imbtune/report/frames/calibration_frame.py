"""A calibration as its figures show it: a row per rung."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import StudyError
from imbtune.report.study_data import NothingToDrawError
from imbtune.storage import Store, join
from imbtune.study.lock import Activity, activity_of
from imbtune.study.results.calibration_result import FILE, Calibration

SCORES_FOLDER = "scores"  # a file for each run that has finished


@dataclass(frozen=True, eq=False)
class CalibrationData:
    """A calibration, read once.

    Attributes:
        path: its folder or URI.
        info: the content of study.yaml.
        done: runs that have finished.
        found: the result; None where runs are left.
        activity: whether a process works on the calibration.
    """

    path: str
    info: Mapping[str, Any]
    done: int
    found: Calibration | None
    activity: Activity = field(default_factory=Activity)

    @property
    def name(self) -> str:
        """The name in study.yaml; the folder may have been renamed since."""
        return str(self.info.get("name") or self.path)

    @property
    def planned(self) -> int:
        """Configurations, each of which is trained with two seeds."""
        return int(self.info.get("trials") or 0)


def read_calibration_data(path: str, info: Mapping[str, Any]) -> CalibrationData:
    """Read a calibration, also while it runs.

    Raises:
        StudyError: `calibration.yaml` is damaged.
    """
    store = Store(path)
    found = None
    if store.exists(FILE):
        try:
            found = Calibration.from_dict(parse_yaml(join(path, FILE), store.read(FILE)))
        except (KeyError, TypeError, ValueError) as error:
            raise StudyError(
                f"cannot read {join(path, FILE)} ({type(error).__name__} {error}): "
                "restore it from a backup"
            ) from error
    return CalibrationData(path, info, len(store.parts(SCORES_FOLDER)), found, activity_of(store))


def rung_frame(data: CalibrationData) -> pd.DataFrame:
    """A row per rung: `kind`, `budget` (epochs), `rho`, `low` and `high` (90 % interval),
    `recall` (share of the best third that it finds), `cost` (full runs a trial).

    Raises:
        NothingToDrawError: there is no result yet, or ρ is defined at no rung.
    """
    if data.found is None:
        raise NothingToDrawError("the result is computed when all runs have ended")
    frame = pd.DataFrame([vars(rung) for rung in data.found.reports])
    if frame.empty or not frame["rho"].notna().any():
        raise NothingToDrawError("all scores are equal, so that ρ is not defined")
    return frame
