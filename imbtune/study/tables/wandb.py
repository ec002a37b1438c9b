"""Sends a study's rows to Weights & Biases: a run per trial, a group per study.

All runs are in the driver process and share one service process of W&B (`reinit="create_new"`), so
a trial starts no further process. Offline runs are written to files, which `wandb sync` uploads.
The package is imported only by a search that uses it: the import takes almost a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError
from imbtune.study.tables.parquet import Row


def check_wandb(mode: str) -> None:
    """Check the API key for online runs.

    Raises:
        ConfigError: no key is set or stored, or W&B refuses it.
    """
    if mode != "online":
        return
    import wandb

    fix = "set $WANDB_API_KEY, or run `wandb login`, or use --wandb offline"
    try:
        if not wandb.login(prompt=False):
            raise ConfigError(f"--wandb online needs an API key: {fix}")
    except wandb.Error as error:
        raise ConfigError(f"--wandb online: {error}: {fix}") from error


class WandbSink:
    """Runs named `STUDY-TRIAL`, grouped by study.

    Args:
        folder: where W&B writes its files.
        configs: settings and preset by trial number. The search adds a trial's entry before its
            first row.
    """

    def __init__(
        self, project: str, study: str, mode: str, folder: Path, configs: Mapping[int, Row]
    ) -> None:
        self._project, self._study, self._mode = project, study, mode
        self._folder, self._configs = folder, configs
        self._runs: dict[int, Any] = {}

    def epoch(self, row: Row) -> None:
        self._run(row["trial"]).log(_values(row))

    def trial(self, row: Row) -> None:
        run = self._run(row["trial"])
        run.summary.update(_values(row) | {"state": row["state"]})
        run.finish(exit_code=int(row["state"] == "FAIL"))
        del self._runs[row["trial"]]

    def flush(self) -> None:
        """Does nothing: W&B sends rows by itself."""

    def close(self) -> None:
        """Finish the runs of interrupted trials, with exit code 1."""
        for run in self._runs.values():
            run.finish(exit_code=1)

    def _run(self, number: int) -> Any:
        if number not in self._runs:
            import wandb

            settings = dict(self._configs[number])
            self._runs[number] = wandb.init(
                project=self._project,
                group=self._study,
                name=f"{self._study}-{number}",
                config=settings,
                mode=self._mode,  # type: ignore[arg-type]
                dir=self._folder,
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            )
        return self._runs[number]


def _values(row: Row) -> dict[str, Any]:
    """The row's finite numbers and its phase; recall as one value per class, `recall/0`, …"""
    found = {
        name: value
        for name, value in row.items()
        if name == "phase"
        or (isinstance(value, (int, float)) and name != "trial" and math.isfinite(value))
    }
    return found | {f"recall/{k}": v for k, v in enumerate(row.get("recall") or [])}
