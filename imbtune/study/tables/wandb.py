"""Sends a study's rows to Weights & Biases: a run per trial, a group per study.

All runs are in the driver process and share one service process of W&B (`reinit="create_new"`), so
a trial starts no further process. Offline runs are written to files, which `wandb sync` uploads.
The package is imported only by a search that uses it: the import takes almost a second.

A trial has one run, also in a search that is resumed: the run's ID follows from the study and the
trial, and rows that W&B has got before are not sent again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Key, Row, epoch_key

LONGEST = 128  # characters of a project, a group, or a run's name
LONGEST_TAG = 64
FORBIDDEN = r"[/\\#?%:\x00-\x1f\x7f\ud800-\udfff]"  # in a project's name


def check_wandb(request: SearchRequest) -> None:
    """Check the names for W&B, and the API key for online runs.

    Raises:
        ConfigError: W&B does not accept a name; no key is set or stored, or W&B refuses it.
    """
    _check_names(request)
    if request.wandb != "online":
        return
    import wandb

    fix = "set $WANDB_API_KEY, or run `wandb login`, or use --wandb offline"
    try:
        if not wandb.login(prompt=False):
            raise ConfigError(f"--wandb online needs an API key: {fix}")
    except wandb.Error as error:
        raise ConfigError(f"--wandb online: {error}: {fix}") from error


def project_of(request: SearchRequest) -> str:
    """The project that the request names, or else one named after the space, as W&B accepts it."""
    if request.wandb_project is not None:
        return request.wandb_project
    return re.sub(FORBIDDEN, "-", request.space.name).strip()[:LONGEST] or "imbtune"


class WandbSink:
    """A run per trial, named `STUDY-TRIAL` and grouped by study.

    Args:
        request: of the search, with the project, the entity and the tags.
        study: what study.yaml says of the study: its name and its start give the runs their IDs. A
            folder that is renamed keeps both.
        folder: where W&B writes its files.
        configs: settings and preset by trial number. The search adds a trial's entry before its
            first row.
        sent: the epochs that an earlier process has sent.
    """

    def __init__(
        self,
        request: SearchRequest,
        study: Mapping[str, Any],
        folder: Path,
        configs: Mapping[int, Row],
        sent: Collection[Key] = (),
    ) -> None:
        self._name = str(study.get("name", request.name))
        identity = f"{self._name} {study.get('started')} {request.seed}"
        self._id = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self._request, self._folder, self._configs = request, folder, configs
        self._sent, self._steps = set(sent), Counter(key[0] for key in sent)
        self._runs: dict[int, Any] = {}

    def epoch(self, row: Row) -> None:
        """Send an epoch, unless an earlier process has."""
        key, number = epoch_key(row), row["trial"]
        if key not in self._sent:
            self._sent.add(key)
            # the step goes on where the earlier process ended; W&B would begin at 0 in every file
            self._run(number).log(_values(row), step=self._steps[number])
            self._steps[number] += 1

    def trial(self, row: Row) -> None:
        """Send how a trial ended, and end its run."""
        number = row["trial"]
        if number not in self._configs:  # interrupted before, and not begun again in this process
            return
        run = self._run(number)
        run.summary.update(_values(row) | {"state": row["state"]})
        run.finish(exit_code=int(row["state"] in ("FAIL", "STOPPED")))
        del self._runs[number]

    def flush(self) -> None:
        """Does nothing: W&B sends rows by itself."""

    def close(self) -> None:
        """End the runs that are left, with exit code 1."""
        for run in self._runs.values():
            run.finish(exit_code=1)
        self._runs.clear()

    def _run(self, number: int) -> Any:
        if number not in self._runs:
            import wandb

            suffix = f"-{number}"
            self._runs[number] = wandb.init(
                project=project_of(self._request),
                entity=self._request.wandb_entity,
                group=self._name[:LONGEST],
                name=self._name[: LONGEST - len(suffix)] + suffix,
                id=self._id + suffix,
                resume="allow",
                tags=self._request.wandb_tags or None,
                config=dict(self._configs[number]),
                mode=self._request.wandb,  # type: ignore[arg-type]
                dir=self._folder,
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
            )
        return self._runs[number]


def _check_names(request: SearchRequest) -> None:
    given = {
        "--wandb-project": request.wandb_project,
        "--wandb-entity": request.wandb_entity,
        "--wandb-tags": ",".join(request.wandb_tags) or None,
    }
    for option, value in given.items():
        if value is not None and request.wandb == "off":
            raise ConfigError(f"{option} {value} goes with --wandb offline or online")
    project, entity = request.wandb_project, request.wandb_entity
    if project is not None:
        bad = re.search(FORBIDDEN, project) or project != project.strip()
        if bad or not 1 <= len(project) <= LONGEST:
            raise ConfigError(
                f"--wandb-project {project!r}: give 1 to {LONGEST} characters without "
                "/ \\ # ? % : and without a space at the ends"
            )
    if entity is not None and not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{LONGEST}}}", entity):
        raise ConfigError(
            f"--wandb-entity {entity!r}: give the name of a user or a team: letters, digits, '-', "
            "'_' and '.'"
        )
    for tag in request.wandb_tags:
        if not 1 <= len(tag) <= LONGEST_TAG or not tag.isprintable():
            raise ConfigError(f"--wandb-tags {tag!r}: give 1 to {LONGEST_TAG} characters for each")


def _values(row: Row) -> dict[str, Any]:
    """The row's finite numbers and its phase; recall as one value per class, `recall/0`, …"""
    found = {
        name: value
        for name, value in row.items()
        if name == "phase"
        or (isinstance(value, (int, float)) and name != "trial" and math.isfinite(value))
    }
    return found | {f"recall/{k}": v for k, v in enumerate(row.get("recall") or [])}
