"""Sends a study's rows to Weights & Biases: a run per trial, a group per study.

All runs are in the driver process and share one service process of W&B (`reinit="create_new"`), so
a trial starts no further process. Offline runs are written to files, which `wandb sync` uploads.
The package is imported only by a search that uses it: the import takes almost a second.

A trial has one run, also in a search that is resumed: the run's ID follows from the study and the
trial. A killed process loses rows that W&B had not written or sent yet. So a resumed trial first
brings its run up to the study's table: online those rows that W&B lacks, offline all of them, in a
new file that takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Row, epoch_key

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
    from pydantic import ValidationError  # of W&B's settings, which pydantic checks

    fix = "set $WANDB_API_KEY, or run `wandb login`, or use --wandb offline"
    try:
        if not wandb.login(prompt=False):
            raise ConfigError(f"--wandb online needs an API key: {fix}")
    except wandb.Error as error:
        raise ConfigError(f"--wandb online: {error}: {fix}") from error
    except ValidationError as error:
        names = ", ".join(
            f"$WANDB_{str(part['loc'][0]).upper()}" for part in error.errors() if part["loc"]
        )
        raise ConfigError(
            f"--wandb online: W&B does not accept the value of {names or 'a variable'}: correct or "
            "unset it"
        ) from error


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
        before: the rows of epochs of interrupted trials that the study had when it was resumed.
    """

    def __init__(
        self,
        request: SearchRequest,
        study: Mapping[str, Any],
        folder: Path,
        configs: Mapping[int, Row],
        before: Sequence[Row] = (),
    ) -> None:
        self._name = str(study.get("name", request.name))
        identity = f"{self._name} {study.get('started')} {request.seed}"
        self._id = hashlib.sha256(identity.encode()).hexdigest()[:12]
        self._request, self._folder, self._configs = request, folder, configs
        self._known = {epoch_key(row) for row in before}
        self._before: dict[int, list[Row]] = defaultdict(list)
        for row in before:
            self._before[row["trial"]].append(row)
        self._steps: Counter[int] = Counter()
        self._runs: dict[int, Any] = {}
        self._old: dict[int, list[Path]] = {}  # folders that the run's own one replaces

    def epoch(self, row: Row) -> None:
        """Send an epoch; not where it is trained again, since the study had its row before."""
        self._run(row["trial"])  # sends the rows from before, if there are any
        if epoch_key(row) not in self._known:
            self._send(row)

    def trial(self, row: Row) -> None:
        """Send how a trial ended, and end its run."""
        number = row["trial"]
        if number not in self._configs:  # interrupted before, and not begun again in this process
            return
        run = self._run(number)
        run.summary.update(_values(row) | {"state": row["state"]})
        self._finish(number, exit_code=int(row["state"] in ("FAIL", "STOPPED")))

    def flush(self) -> None:
        """Does nothing: W&B sends rows by itself."""

    def close(self) -> None:
        """End the runs that are left, with exit code 1."""
        for number in list(self._runs):
            self._finish(number, exit_code=1)

    def _run(self, number: int) -> Any:
        if number not in self._runs:
            import wandb

            suffix = f"-{number}"
            old = self._files(number)
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
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    x_disable_stats=True,
                    x_disable_meta=True,  # it has the command line of the user's own script
                ),
            )
            self._old[number] = [
                path for path in old if path != Path(self._runs[number].dir).parent
            ]
            for row in self._before[number]:
                self._send(row)
        return self._runs[number]

    def _send(self, row: Row) -> None:
        """Send a row as the next step of its run, unless the run has that step already."""
        run, step = self._runs[row["trial"]], self._steps[row["trial"]]
        self._steps[row["trial"]] += 1
        if step >= run.starting_step:  # above 0 in a run that W&B resumes online
            run.log(_values(row), step=step)

    def _finish(self, number: int, exit_code: int) -> None:
        """End a run; its file now has all that older offline files of the trial have."""
        self._runs.pop(number).finish(exit_code=exit_code)
        for folder in self._old.pop(number):
            shutil.rmtree(folder, ignore_errors=True)

    def _files(self, number: int) -> list[Path]:
        """The folders with offline files of a trial."""
        return list(self._folder.glob(f"wandb/offline-run-*-{self._id}-{number}"))


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
