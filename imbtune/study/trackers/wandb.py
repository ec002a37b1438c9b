"""Shows a study's runs in Weights & Biases: a run for each training, a group for each study.

All runs are in the driver process and share one service process of W&B (`reinit="create_new"`), so
a trial starts no further process. Offline runs are written to files, which `imbtune sync` uploads.
The package is imported only by a search that uses it: the import takes almost a second.

A training has one run, also in a search that is resumed: the run's ID follows from the study and
the training. A killed process loses rows that W&B had not written or sent yet. So a resumed trial
first brings its run up to the study's table: online those rows that W&B lacks, offline all of them,
in a new file that takes the place of the old one.

A server that does not answer costs no row: from then on runs are kept in files, as offline, and
those that it has not taken whole stay beside them. `imbtune sync` uploads both.
"""

from __future__ import annotations

import atexit
import importlib
import re
import shlex
import shutil
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from http.client import HTTPException
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

from imbtune.errors import ConfigError, first_line
from imbtune.progress import Log
from imbtune.storage.temporary import temporary_folder
from imbtune.study.request import SearchRequest
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers.runs import (
    Run,
    TrackedStudy,
    Values,
    class_names,
    failed,
    finished,
)

LONGEST = 128  # characters of a project, a group, or a run's name
LONGEST_TAG = 64
FORBIDDEN = r"[/\\#?%:\x00-\x1f\x7f\ud800-\udfff]"  # in a project's name
SECONDS = 8.0  # that W&B has to open a run, and to take what is left of one that ends
ANOTHER_ID = "-files"  # of a run that could not be opened online: W&B holds its ID until the end
LEAVE_SECONDS = 2.0  # that its service process has to end
SERVER_ERROR = 500  # HTTP: from this status on
SYNCED = ".synced"  # the ending of the mark of a run that W&B has
KEY = "set $WANDB_API_KEY, or run `wandb login`"


@cache
def _imported() -> ModuleType:
    """W&B. Its temporary folders, which it makes when it is imported, are in one of ours.

    W&B deletes them at the end of the process. Those of a process that was killed would stay; ours
    is deleted by the next one that makes such a folder.
    """
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder("wandb"))
    atexit.register(stack.close)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        return importlib.import_module("wandb")
    finally:
        tempfile.tempdir = before


def check_wandb(request: SearchRequest) -> None:
    """Check the names for W&B, and that there is an API key for online runs. Asks no server.

    Raises:
        ConfigError: W&B does not accept a name or a variable; no key is set or stored.
    """
    _check_names(request)
    if request.wandb == "online" and not has_key("--wandb online"):
        raise ConfigError(f"--wandb online needs an API key: {KEY}, or use --wandb offline")


def has_key(what: str) -> bool:
    """Whether an API key of W&B is set or stored. Asks no server.

    Args:
        what: needs the key, for the message.

    Raises:
        ConfigError: W&B does not accept a variable, or the key.
    """
    wandb = _imported()
    from pydantic import ValidationError  # of W&B's settings, which pydantic checks

    try:
        settings = wandb.setup().settings
        before, settings.silent = settings.silent, True  # else it asks the server for the user
        try:
            return bool(wandb.login(prompt=False, verify=False))
        finally:
            settings.silent = before
    except wandb.Error as error:
        raise ConfigError(f"{what}: {error}: {KEY}") from error
    except ValidationError as error:
        names = ", ".join(
            f"$WANDB_{str(part['loc'][0]).upper()}" for part in error.errors() if part["loc"]
        )
        raise ConfigError(
            f"{what}: W&B does not accept the value of {names or 'a variable'}: correct or unset it"
        ) from error


def why_silent() -> str:
    """Why W&B's server cannot be used: in words, or empty where it answers."""
    url = str(_imported().setup().settings.base_url)
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError as error:  # it answers; a page at its root there need not be
        return f"{url} answers {error.code}" if error.code >= SERVER_ERROR else ""
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return f"{url}: {getattr(reason, 'strerror', None) or reason}"


def project_of(request: SearchRequest) -> str:
    """The project that the request names, or else one named after the space, as W&B accepts it."""
    if request.wandb_project is not None:
        return request.wandb_project
    return re.sub(FORBIDDEN, "-", request.space.name).strip()[:LONGEST] or "imbtune"


class WandbTracker:
    """A run per training, named `STUDY-RUN` and grouped by study. Epochs are the x-axis."""

    title = "W&B"
    tell: Log

    def __init__(self, study: TrackedStudy) -> None:
        self._study, self._request = study, study.request
        project = f"the project {project_of(study.request)}"
        upload = f"files for {project}; imbtune sync {shlex.quote(study.request.path)} uploads them"
        self.where = project if study.request.wandb == "online" else upload
        self._mode = study.request.wandb  # offline from when the server does not answer
        self._has_charts = True  # whether the server takes tables, of which a chart is made
        self._runs: dict[str, Any] = {}
        self._old: dict[str, list[Path]] = {}  # folders that the run's own one replaces

    def begin(self, run: Run) -> int:
        """Open the run; above 0 where W&B resumes it online."""
        old = self._folders(run.name)
        try:
            opened = self._open(run.name, run.kind, run.nested())
        except Exception as error:  # W&B raises many
            if self._mode != "online":
                raise
            for folder in set(self._folders(run.name)) - set(old):
                shutil.rmtree(folder, ignore_errors=True)  # of a run that was never opened
            self._go_offline(error)
            opened = self._open(run.name, run.kind, run.nested(), ANOTHER_ID)
        opened.define_metric("epoch")
        opened.define_metric("*", step_metric="epoch")
        self._runs[run.name] = opened
        self._old[run.name] = [path for path in old if path != Path(opened.dir).parent]
        return int(opened.starting_step)

    def epoch(self, run: Run, step: int, row: Row, values: Values) -> None:
        """Send an epoch."""
        where = {name: row[name] for name in ("epoch", "budget", "phase")}
        self._runs[run.name].log({**values, **where}, step=step)

    def end(self, run: Run, state: str, row: Row, values: Values) -> None:
        """Send how a training ended, and end its run; its file replaces older offline ones."""
        opened = self._runs[run.name]
        opened.summary.update({**values, "state": state})
        if self._has_charts and row.get("recall") and finished(state):
            self._chart(opened, row["recall"])
        self._finish(run.name, failed(state))

    def report(self, path: Path) -> None:
        """Keep the report as an artifact of a run of its own, a version for each."""
        wandb = _imported()

        opened = self._open("report", "report", {})
        self._runs["report"], self._old["report"] = opened, []
        artifact = wandb.Artifact(f"report-{self._study.id}", type="report")
        artifact.add_file(str(path), name="report.html")
        opened.log_artifact(artifact)
        self._finish("report", is_failed=False)

    def close(self) -> None:
        """End the runs that are left, with exit code 1."""
        for name in list(self._runs):
            self._finish(name, is_failed=True)

    def leave(self) -> None:
        """End W&B's service process, for which W&B would wait at the end of the process."""
        thread = threading.Thread(target=_imported().teardown, daemon=True, name="end of W&B")
        thread.start()
        thread.join(LEAVE_SECONDS)

    def _open(self, name: str, kind: str, config: dict[str, Any], more: str = "") -> Any:
        wandb = _imported()

        suffix = f"-{name}"
        return wandb.init(
            project=project_of(self._request),
            entity=self._request.wandb_entity,
            group=self._study.name[:LONGEST],
            job_type=kind,
            name=self._study.name[: LONGEST - len(suffix)] + suffix,
            id=self._study.id + suffix + more,
            resume="allow",
            tags=self._request.wandb_tags or None,
            config=config,
            mode=self._mode,
            dir=self._study.folder,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=SECONDS,
                finish_timeout=SECONDS,
                finish_timeout_raises=True,
                x_disable_stats=True,
                x_disable_meta=True,  # it has the command line of the user's own script
            ),
        )

    def _chart(self, opened: Any, recall_K: Sequence[float]) -> None:
        """Send a bar for each class that has validation images, in the order of the classes."""
        wandb = _imported()

        both = zip(class_names(self._study.classes, len(recall_K)), recall_K, strict=True)
        rows: list[Iterable[Any]] = [[name, recall] for name, recall in both if isfinite(recall)]
        table = wandb.Table(columns=["class", "recall"], data=rows)
        bars = wandb.plot.bar(table, "class", "recall", title="recall by class")
        try:
            opened.log({"recall by class": bars})
        except Exception:  # W&B raises many: an old server has no tables; the curves have recall
            self._has_charts = False

    def _finish(self, name: str, is_failed: bool) -> None:
        """End a run. One that the server has not taken whole stays as a file, without the mark."""
        opened = self._runs.pop(name)
        was_online = not opened.offline
        if was_online and self._mode == "offline":
            return  # another run has waited for the server already
        try:
            opened.finish(exit_code=int(is_failed))
        except Exception as error:  # W&B raises many
            if not was_online:
                raise
            self._go_offline(error)
            return
        if was_online:
            mark_synced(Path(opened.dir).parent)
        for folder in self._old.pop(name, ()):
            shutil.rmtree(folder, ignore_errors=True)

    def _folders(self, name: str) -> list[Path]:
        """The folders of a run, of this process and earlier ones."""
        names = (name, f"{name}{ANOTHER_ID}")
        folder, run = self._study.folder, f"wandb/*run-*-{self._study.id}"
        return [path for each in names for path in folder.glob(f"{run}-{each}")]

    def _go_offline(self, error: Exception) -> None:
        """Keep runs in files from now on."""
        if self._mode == "online":
            self._mode = "offline"
            self.tell(
                f"does not answer ({type(error).__name__}: {first_line(error)}): its runs are kept "
                f"in files from now on; imbtune sync {shlex.quote(self._request.path)} uploads them"
            )


def mark_synced(folder: Path) -> None:
    """Mark a run's folder as W&B's own `wandb sync` does, so that it is not uploaded again."""
    for path in folder.glob("*.wandb"):
        with suppress(OSError):
            path.with_name(f"{path.name}{SYNCED}").touch()


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
