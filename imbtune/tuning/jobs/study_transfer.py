"""Copies a study to this machine: from a bucket, or from the head node through its job's log.

Ray's Jobs API starts commands and returns what they print; it does not read files. So a small job
on the head node prints the study as text: a compressed tar archive in Base64.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow.fs as pafs

from imbtune.errors import StudyError
from imbtune.storage import Store

FILE, JOURNAL = "study.yaml", "journal.log"
TABLES = ("trials", "epochs", "finals")
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
    names = [name for name in names if not name.startswith(".")]
    for table in TABLES:
        names += [f"{table}/{part}" for part in store.names(table)]
    return sorted(names, key=lambda name: (name == JOURNAL, name))


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
    packed = base64.b64decode(match[2])
    if hashlib.sha256(packed).hexdigest() != match[1]:
        raise StudyError("the study was damaged on its way: try again")
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or not _is_ours(member.name):
                raise StudyError(f"the cluster sent {member.name!r}, which is no file of a study")
            files[member.name] = content.read()
    return files


def _is_ours(name: str) -> bool:
    """Whether it is a path that `_names` gives, and leads nowhere else."""
    folder, slash, leaf = name.rpartition("/")
    return bool(leaf) and not leaf.startswith(".") and (not slash or folder in TABLES)


def check_target(folder: Path) -> None:
    """Raise StudyError if a study cannot be written to `folder`."""
    if folder.exists() and not (folder / FILE).is_file():
        raise StudyError(f"{folder} exists, but is not a study: give another folder with --to")
    Store(str(folder)).check_writable()


def write_files(files: Files, folder: Path) -> None:
    """Write a study to `folder`. An earlier copy of it is replaced; its other files are kept.

    Raises:
        StudyError: the folder has another study, or one that was continued there.
    """
    check_target(folder)
    before = folder / JOURNAL
    known = before.read_bytes() if before.is_file() else b""
    if folder.exists() and not files.get(JOURNAL, b"").startswith(known):
        raise StudyError(
            f"{folder} has another study, or has gone on by itself: give another folder with --to"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (new / name).parent.mkdir(exist_ok=True)
            (new / name).write_bytes(content)
        new.chmod(0o777 & ~_umask())
        if folder.exists():
            _keep_others(folder, new)
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
            os.replace(new, folder)
            shutil.rmtree(old)
        else:
            os.replace(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _keep_others(folder: Path, new: Path) -> None:
    """Copy what a user has beside the study's own files: reports, trained models."""
    for path in folder.iterdir():
        if path.name in (*TABLES, "best.yaml") or (new / path.name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)


def _link(source: str, target: str) -> None:
    """A second name of a file, which may be a large model; a copy where links are not possible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
