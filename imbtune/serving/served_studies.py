"""The studies under a folder or a bucket: which there are, and whether one has changed."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ImbtuneError, StudyError, first_line
from imbtune.paths import folder_name
from imbtune.report.wording import corrected_words, counted, number
from imbtune.storage import Store, join
from imbtune.study.lock import activity_of
from imbtune.study.records import ENDED, FAIL, FINISHED, OUT_OF_TIME, WORDS
from imbtune.study.tables.find_studies import studies_in
from imbtune.study.view import Study
from imbtune.study.working_journal import ended_in_journal

FILE = "study.yaml"
RUNNING = "running"
# How a search stands, by whether a process has its lock, where study.yaml records no end
WITHOUT_END = {
    True: RUNNING,
    False: "killed, unless it runs on another machine",
    None: "no end recorded",
}
RUN_FOLDERS = {"calibration": "scores", "comparison": "runs"}  # with a file for each run
# What a page shows is in these files, and in the files of these folders
FILES = (FILE, "best.yaml", "calibration.yaml", "table.parquet")
FOLDERS = ("trials", "epochs", "finals", "scores", "runs", "best", "errors")


@dataclass(frozen=True)
class Listed:
    """A study in the list of all studies.

    Attributes:
        name: of its folder.
        purpose: search, calibration or comparison; empty where the study cannot be read.
        about: how far it is, in a few words.
        started: as study.yaml has it; empty where it is not recorded.
        changed: when one of its files was last written (UTC).
        best: the winner or, before the finals, the best trial of one run; of a comparison the best
            configuration, of a calibration its advice; empty without one.
        error: why it cannot be read; empty where it can.
    """

    name: str
    purpose: str
    about: str
    started: str
    changed: dt.datetime | None
    best: str
    error: str = ""


def find_studies(path: str) -> Mapping[str, str]:
    """The path of each study in a folder, by the name of the study's folder.

    A folder that is a study itself has that one. A folder that does not exist yet, in one that
    does, has none: the first search makes it.

    Args:
        path: a folder or URI.

    Raises:
        StudyError: it cannot be reached, or is no folder.
    """
    store = Store(path)
    if store.local and not exists(path):
        return {}
    found = studies_in(path, may_be_empty=True)
    return {folder_name(place): place for place in found}


def exists(path: str) -> bool:
    """Whether a folder exists; it may still be made where the folder that it is to be in exists.

    Args:
        path: a folder, or a URI, of which it is not known.

    Raises:
        StudyError: it cannot be reached, is no folder, or has no place.
    """
    folder = Store(path).local
    if folder is None:
        return True
    try:
        if folder.is_dir():
            return True
        if folder.exists():
            raise StudyError(f"{path} is no folder: give a folder of studies")
        if folder.parent.is_dir():
            return False
    except OSError as error:
        raise StudyError(f"cannot read {path}: {first_line(error)}") from error
    raise StudyError(f"{path} does not exist, nor does {folder.parent}: give a folder of studies")


def state_of(path: str) -> tuple[str, dt.datetime | None]:
    """A text that changes whenever what a page shows of a study does, and the time of that.

    Raises:
        StudyError: the study cannot be reached.
    """
    store = Store(path, seconds=0)
    found: list[pafs.FileInfo] = []
    try:
        found += store.fs.get_file_info([f"{store.root}/{name}" for name in FILES])
        for folder in FOLDERS:
            deep = folder == "best"  # a preset beside the winner has a folder of its own in it
            selector = pafs.FileSelector(f"{store.root}/{folder}", True, recursive=deep)
            found += store.fs.get_file_info(selector)
    except OSError as error:
        raise StudyError(f"cannot read {path}: {first_line(error)}") from error
    files = [
        info
        for info in found
        if info.type == pafs.FileType.File and not info.base_name.startswith(".")
    ]
    activity = activity_of(store)
    minute = f"{activity.changed:%Y-%m-%d %H:%M}" if activity.changed else ""  # as a page says it
    lines = [f"locked: {activity.locked} {minute}"]
    lines += sorted(f"{info.path}\0{info.size}\0{info.mtime_ns}" for info in files)
    newest = max((info.mtime for info in files if info.mtime), default=None)
    return hashlib.sha256("\n".join(lines).encode(errors="replace")).hexdigest()[:32], newest


def listed(name: str, path: str, changed: dt.datetime | None) -> Listed:
    """A study's line in the list; of one that cannot be read, why."""
    try:
        study = Study(path)
        info = study.info
        purpose = str(info.get("purpose", "search"))
        about, best = f"{info.get('trials')} trials", ""
        if purpose == "search":
            about, best = _progress(study, info), _best(study)
        else:
            store = Store(path, seconds=0)
            done = len(store.parts(RUN_FOLDERS[purpose]))
            planned = int(info.get("trials") or 0) * (2 if purpose == "calibration" else 1)
            best = _found(store, purpose)
            state = FINISHED if best else "not finished"
            state = RUNNING if activity_of(store).locked else state
            about = f"{state}: {done} of {planned} runs ended"
        return Listed(name, purpose, about, str(info.get("started", "")), changed, best)
    except (ImbtuneError, KeyError, TypeError, ValueError, OSError) as error:
        return Listed(name, "", "", "", changed, "", first_line(error))


def _progress(study: Study, info: Mapping[str, object]) -> str:
    """How a search stands, as in `running: 4 of 12 trials ended (2 finished, 2 stopped)`."""
    states = study.trials["state"]
    counts = {state: int((states == state).sum()) for state in (*ENDED, FAIL)}
    ended = shown = sum(counts.values())
    how = _how(study, info)
    if not info.get("end") and how != RUNNING:  # killed: the journal may have more than the table
        ended = max(shown, ended_in_journal(Store(study.path, seconds=0)))
    if how == RUNNING and ended == info.get("trials"):
        how = f"running the finals, of which {len(study.finals)} ended"
    text = f"{how}: {ended} of {info.get('trials')} trials ended"
    kinds = [f"{count} {WORDS[state]}" for state, count in counts.items() if count]
    if ended != shown or not kinds:  # the table does not say how all of them ended
        return text
    if len(kinds) == 1 and ended > 1:
        kinds = [f"all {kinds[0].split()[1]}"]
    return f"{text} ({', '.join(kinds)})"


def _how(study: Study, info: Mapping[str, object]) -> str:
    """Whether the search runs, or how it ended."""
    if end := info.get("end"):
        return "time budget used up" if end == OUT_OF_TIME else str(end)
    return WITHOUT_END[activity_of(Store(study.path, seconds=0)).locked]


def _found(store: Store, purpose: str) -> str:
    """What a calibration advises, or which configuration is the best of a comparison."""
    name = {"calibration": "calibration.yaml", "comparison": "table.parquet"}.get(purpose, "")
    if not name or not store.exists(name):
        return ""
    if purpose == "calibration":
        advice = parse_yaml(join(store.path, name), store.read(name))["advice"]
        return f"--rungs {advice['rungs']}, as {advice['why']}"
    table = pq.read_table(pa.BufferReader(store.read(name)))
    return f"{table['row'][0]}, of {len(table)} configurations" if len(table) else ""


def _best(study: Study) -> str:
    if evidence := study.evidence:
        winner = study.winner
        assert winner is not None
        mean = f"{number(evidence.mean)}, mean of {counted(evidence.seeds, 'fresh seed')}"
        mean += corrected_words(evidence)
        return f"trial {winner.number}: {mean}"
    best = study.best
    if best is None or best.score is None:
        return ""
    return f"trial {best.number}: {number(best.score)} in one run"
