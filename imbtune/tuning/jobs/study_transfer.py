"""Copies a study to this machine: from a bucket, or from the head node through its job's log.

Ray's Jobs API starts commands and returns what they print; it does not read files. So a small job
on the head node prints the study as text: a compressed tar archive in Base64.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.fs as pafs

from imbtune.errors import StudyError
from imbtune.limits import FILE_NAME_BYTES
from imbtune.storage import Store

FILE, JOURNAL, LOG = "study.yaml", "journal.log", "search.log"
# Its folders that are copied, each with the ending of its files
FOLDERS = {
    **dict.fromkeys(("trials", "epochs", "finals", "classes", "predictions"), "parquet"),
    "errors": "txt",
}
OWN_FILES = (FILE, JOURNAL, LOG, "space.yaml", "best.yaml", "calibration.yaml")  # beside plugins
READS = 20  # attempts at a copy, while the search replaces files
MOST_BYTES = 256 * 2**20  # of a study that is printed
WIDTH = 32_000  # characters per printed line
BEGIN, END = "-----BEGIN STUDY-----", "-----END STUDY-----"

Files = Mapping[str, bytes]  # content by the path in the study's folder


def read_files(path: str) -> Files:
    """The files of a study, also while it is searched; without checkpoints and trained models.

    The journal is read last: tables that are older than it can be resumed, newer ones cannot.

    Raises:
        StudyError: there is no study, or it cannot be read.
    """
    store = Store(path)
    try:
        if not store.exists(FILE):
            raise StudyError(f"{path} is not a study, it has no {FILE}")
        for _ in range(READS):
            files = _read_once(store)
            if files is not None:
                return files
    except OSError as error:
        raise StudyError(f"cannot read the study {path}: {error}") from error
    raise StudyError(f"cannot read the study {path}: its files change too fast: try again")


def _read_once(store: Store) -> Files | None:
    """All files; None if one was replaced meanwhile, so that rows could be missing or doubled."""
    names = _names(store)
    try:
        files = {name: store.read(name) for name in names}
    except FileNotFoundError:
        return None
    return files if set(names) <= set(_names(store)) else None


def _names(store: Store) -> list[str]:
    """The files of a study by name, the journal last."""
    selector = pafs.FileSelector(store.root, allow_not_found=True)
    found = store.fs.get_file_info(selector)
    names = [info.base_name for info in found if info.type == pafs.FileType.File]
    for table in FOLDERS:
        names += [f"{table}/{part}" for part in store.names(table)]
    return sorted(filter(is_study_file, names), key=lambda name: (name == JOURNAL, name))


def to_text(files: Files) -> str:
    """The files as lines of text, with a checksum.

    Raises:
        StudyError: they are too large to be printed.
    """
    size = sum(map(len, files.values()))
    if size > MOST_BYTES:
        raise StudyError(
            f"the study has {size / 2**20:.0f} MiB, too many to be sent through Ray's Jobs API: "
            "copy it from the head node, for example with rsync"
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    text = base64.b64encode(packed.getvalue()).decode()
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    lines = [text[i : i + WIDTH] for i in range(0, len(text), WIDTH)]
    return "\n".join([f"{BEGIN} {digest}", *lines, END])


def bounded(pieces: Iterable[str]) -> str:
    """A log in which a study is printed; StudyError if it is longer than a study's can be."""
    parts, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > 2 * MOST_BYTES:
            raise StudyError(
                f"the cluster sent more than {2 * MOST_BYTES / 2**20:.0f} MiB: refused"
            )
        parts.append(piece)
    return "".join(parts)


def from_text(text: str) -> Files | None:
    """The files in a log that has the lines of :func:`to_text`; None if it has none.

    Raises:
        StudyError: the lines are incomplete or damaged.
    """
    match = re.search(rf"^{BEGIN} (\w+)$(.*?)^{END}$", text, re.DOTALL | re.MULTILINE)
    if not match:
        if BEGIN in text:
            raise StudyError("the study was not received completely: try again")
        return None
    try:
        packed = base64.b64decode(match[2])
    except ValueError as error:
        raise StudyError("the study was damaged on its way: try again") from error
    if hashlib.sha256(packed).hexdigest() != match[1]:
        raise StudyError("the study was damaged on its way: try again")
    try:
        return _unpacked(packed)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise StudyError(f"the cluster sent what is no archive of a study: {error}") from error


def _unpacked(packed: bytes) -> Files:
    """The files of an archive, whose headers are not believed; StudyError for other files."""
    files: dict[str, bytes] = {}
    with gzip.open(io.BytesIO(packed)) as stream:
        raw = stream.read(2 * MOST_BYTES + 1)  # a tar has up to 1.5 KiB beside each file
    if len(raw) > 2 * MOST_BYTES:
        raise StudyError(f"the cluster sent more than {2 * MOST_BYTES / 2**20:.0f} MiB: refused")
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or not is_study_file(member.name) or member.name in files:
                raise StudyError(f"the cluster sent {member.name!a}, which is no file of a study")
            files[member.name] = content.read()
    if FILE not in files:
        raise StudyError(f"the cluster sent no {FILE}: try again")
    return files


def is_study_file(name: str) -> bool:
    """Whether a study has such a file, of those that are copied: no link, model or checkpoint."""
    folder, slash, leaf = name.rpartition("/")
    if len(leaf.encode(errors="replace")) > FILE_NAME_BYTES or not leaf.isprintable():
        return False
    if slash:
        ending = FOLDERS.get(folder)
        return bool(ending and re.fullmatch(rf"[A-Za-z0-9_-]+\.{ending}", leaf))
    return (
        leaf in OWN_FILES
        or re.fullmatch(r"front-\d+\.yaml", leaf) is not None
        or (leaf.endswith(".py") and leaf[:-3].isidentifier())
    )


def check_target(folder: Path) -> None:
    """Raise StudyError if a study cannot be written to `folder`."""
    if folder.exists() and not (folder / FILE).is_file():
        raise StudyError(f"{folder} exists, but is not a study: give another folder with --to")
    Store(str(folder)).check_writable()


def has_study(path: str) -> bool:
    """Whether there is a study; StudyError if its storage cannot be read."""
    try:
        return Store(path).exists(FILE)
    except OSError as error:
        raise StudyError(f"cannot read the study {path}: {error}") from error


def write_files(files: Files, folder: Path) -> None:
    """Write a study to `folder`. The files of an earlier copy are replaced; all others are kept.

    Each file is replaced as a whole, the journal and `study.yaml` last. After an interruption, the
    next call completes the copy.

    Raises:
        StudyError: the folder has another study, or one that was continued there; it has a folder
            where the study has a file, or the reverse.
    """
    check_target(folder)
    before = folder / JOURNAL
    known = before.read_bytes() if before.is_file() else b""
    if folder.exists() and not files.get(JOURNAL, b"").startswith(known):
        raise StudyError(
            f"{folder} has another study, or has gone on by itself: give another folder with --to"
        )
    for name in files:
        _check_place(folder, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name[:60]}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_bytes(content)
        if not folder.exists():
            new.chmod(0o777 & ~_umask())
            os.replace(new, folder)
            return
        for name in sorted(files, key=lambda name: (name == FILE, name == JOURNAL)):
            if name == JOURNAL:
                _delete_replaced(files, folder)
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(new / name, folder / name)
    except OSError as error:
        raise StudyError(f"cannot write the study {folder}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _check_place(folder: Path, name: str) -> None:
    """StudyError if a folder is where the study's file goes, or a file or link where its folder."""
    place = folder / name
    parent = place.parent
    wrong = parent != folder and (parent.is_symlink() or (parent.exists() and not parent.is_dir()))
    if wrong or (place.is_dir() and not place.is_symlink()):
        raise StudyError(
            f"{parent if wrong else place} is in the way of the study's files: move it, or give "
            "another folder with --to"
        )


def _delete_replaced(files: Files, folder: Path) -> None:
    """Delete the parts of tables that the cluster has merged into others, and an outdated best."""
    parts = [path for table in FOLDERS for path in (folder / table).glob("*.parquet")]
    for path in [*parts, folder / "best.yaml", *folder.glob("front-*.yaml")]:
        name = path.relative_to(folder).as_posix()
        if name not in files and is_study_file(name):
            path.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
