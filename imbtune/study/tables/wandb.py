"""The same rows to Weights & Biases: one run a trial, one group a study.

All runs live in the driver with W&B's one service process (`reinit="create_new"`), so that a
trial costs no process of its own. Offline runs are files that `wandb sync` takes. The package is
imported only by a search that uses it, since that takes most of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError
from imbtune.study.tables.parquet import Row


def check_wandb(mode: str) -> None:
    """ConfigError where online runs could not be sent: no key is set or stored, or a wrong one."""
    if mode != "online":
        return
    import wandb

    mend = "set $WANDB_API_KEY, or run `wandb login`, or use --wandb offline"
    try:
        if not wandb.login(prompt=False):
            raise ConfigError(f"--wandb online needs a key: {mend}")
    except wandb.Error as error:
        raise ConfigError(f"--wandb online: {error}: {mend}") from error


class WandbSink:
    """Runs named `STUDY-TRIAL`, grouped by study.

    Args:
        folder: where W&B keeps its files.
        configs: settings and preset by trial number; filled by the search before a trial's rows.
    """

    def __init__(
        self, project: str, study: str, mode: str, folder: Path, configs: Mapping[int, Row]
    ) -> None:
        self._project, self._study, self._mode = project, study, mode
        self._folder, self._configs = folder, configs
        self._runs: dict[int, Any] = {}

    def epoch(self, row: Row) -> None:
        self._run(row["trial"]).log(_figures(row))

    def trial(self, row: Row) -> None:
        run = self._run(row["trial"])
        run.summary.update(_figures(row) | {"state": row["state"]})
        run.finish(exit_code=int(row["state"] == "FAIL"))
        del self._runs[row["trial"]]

    def flush(self) -> None:
        """Nothing: W&B sends by itself."""

    def close(self) -> None:
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


def _figures(row: Row) -> dict[str, Any]:
    """The row's numbers; per-class recall as one figure a class."""
    figures: dict[str, Any] = {}
    for name, value in row.items():
        if (
            isinstance(value, (int, float)) and name != "trial" and math.isfinite(value)
        ) or name == "phase":
            figures[name] = value
    figures |= {f"recall/{k}": v for k, v in enumerate(row.get("recall") or [])}
    return figures
