"""The folder of a trained model: its files, and the manifest that says that they are complete.

`manifest.json` has the size and the SHA-256 of every other file, and is written last. So a folder
without it was never finished, and a file that is missing, cut or changed is refused by name. The
model card (README.md) is not in it, since its reader may add to it; plugin files have their own
record in it (:mod:`imbtune.config.plugin_record`).

A change of a finished folder (:func:`change_files`) is written so that a kill at any moment leaves
a folder that is complete: the manifest first names both the old and the new content.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from imbtune import __version__, strict_json
from imbtune.errors import ConfigError, DamagedFileError, StudyError
from imbtune.storage import Store, join

FORMAT = 1  # of the folder; a change that an older imbtune could not read raises it
MANIFEST = "manifest.json"
WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.yaml", "labels.json"
PREPROCESS, CALIBRATION, METRICS = "preprocess.json", "calibration.json", "metrics.json"
CLASSES, PREDICTIONS, MARGINS = "classes.parquet", "predictions.parquet", "margins.parquet"
THRESHOLD = "threshold.json"  # where one was chosen
CARD = "README.md"  # not in the manifest
SEED_FOLDER = re.compile(r"seed(\d+)")  # in the first seed's: the model of another one

RESTORE = "restore it from a copy, or train the model again"


@dataclass(frozen=True)
class Entry:
    """What the manifest says of a file.

    Attributes:
        size: in bytes.
        sha256: in hex.
        before: SHA-256 of the content that is being replaced; empty where there was none; None
            unless the file is being replaced.
    """

    size: int
    sha256: str
    before: str | None = None

    @classmethod
    def of(cls, content: bytes) -> Entry:
        """The entry of a file with this content."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    def to_json(self) -> dict[str, object]:
        """As the manifest has it."""
        content: dict[str, object] = {"size": self.size, "sha256": self.sha256}
        return content if self.before is None else content | {"before": self.before}


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        imbtune: the version that wrote the model.
        files: what is said of each file, by name.
        content: all of it.
    """

    imbtune: str
    files: Mapping[str, Entry]
    content: Mapping[str, Any]


def is_model_folder(store: Store) -> bool:
    """Whether a folder has a model, complete or not, of this or a later version."""
    return store.exists(MANIFEST) or store.exists(WEIGHTS)


def write_folder(
    store: Store, files: Mapping[str, bytes], card: str, imports: Mapping[str, object]
) -> None:
    """Write the files of a model, then the manifest.

    Args:
        store: the folder; a manifest that it has already is removed first.
        files: content by name, without the card.
        card: the model card.
        imports: the record of the user's plugins.

    Raises:
        StudyError: the folder cannot be written.
    """
    store.delete(MANIFEST)
    for name, content in files.items():
        store.write(name, content)
    store.write(CARD, card.encode())
    manifest = {
        "format": FORMAT,
        "imbtune": __version__,
        "torch": str(torch.__version__),
        "imports": dict(imports),
    }
    _write_manifest(store, manifest, {name: Entry.of(content) for name, content in files.items()})


def change_files(store: Store, files: Mapping[str, bytes]) -> None:
    """Replace or add files of a complete model; a kill at any moment leaves a complete model.

    Args:
        store: the model's folder.
        files: the new content by name.

    Raises:
        ImbtuneError: there is no complete model, or it cannot be written.
    """
    manifest = read_manifest(store)
    old = manifest.files
    new = {name: Entry.of(content) for name, content in files.items()}
    changing = {  # both contents count until the new one is written
        name: Entry(entry.size, entry.sha256, _digest(store, name)) for name, entry in new.items()
    }
    _write_manifest(store, manifest.content, {**old, **changing})
    for name, content in files.items():
        store.write(name, content)
    _write_manifest(store, manifest.content, {**old, **new})


def remove_file(store: Store, name: str) -> None:
    """Remove a file of a complete model; a kill at any moment leaves a complete model."""
    manifest = read_manifest(store)
    left = {other: entry for other, entry in manifest.files.items() if other != name}
    _write_manifest(store, manifest.content, left)  # a file that it does not list is not read
    store.delete(name)


def read_manifest(store: Store) -> Manifest:
    """The manifest of a model.

    Raises:
        StudyError: the model is not complete.
        DamagedFileError: the manifest is damaged.
        ConfigError: a later version of imbtune wrote it.
    """
    path = join(store.path, MANIFEST)
    try:
        text = store.read(MANIFEST)
    except FileNotFoundError as error:
        raise StudyError(
            f"{path} is missing, so the model is not complete: run the imbtune train command that "
            "writes it again, which goes on, or restore the file from a copy"
        ) from error
    try:
        content = strict_json.loads(text)
        version, format_number = str(content["imbtune"]), int(content["format"])
        if format_number > FORMAT or _is_later(version):
            newer = f"imbtune {version} or later" if _is_later(version) else "a later version"
            raise ConfigError(
                f"{path}: imbtune {version} wrote this model (format {format_number}), and this is "
                f"imbtune {__version__} (format {FORMAT}): install {newer}"
            )
        files = {
            str(name): Entry(int(e["size"]), str(e["sha256"]), e.get("before"))
            for name, e in content["files"].items()
        }
        if not _numbers(version):
            raise ValueError(f"{version} is no version")
        if any(name != PurePosixPath(name).name for name in files):
            raise ValueError("a name leads out of the folder")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"{path} is not what imbtune wrote: {RESTORE}") from error
    return Manifest(version, files, content)


def read_file(store: Store, manifest: Manifest, name: str) -> bytes:
    """The content of a file of a model.

    Raises:
        DamagedFileError: it is missing, or not what the manifest says.
    """
    path, entry = join(store.path, name), manifest.files.get(name)
    if entry is None:
        raise DamagedFileError(f"{join(store.path, MANIFEST)} does not list {name}: {RESTORE}")
    try:
        content = store.read(name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedFileError(f"{path} is missing: {_fix(name)}") from error
    found = hashlib.sha256(content).hexdigest()
    if found not in (entry.sha256, entry.before):
        what = f"has {len(content):,} of {entry.size:,} bytes"
        if len(content) == entry.size:
            what = f"has the SHA-256 {found[:12]}… instead of {entry.sha256[:12]}…"
        raise DamagedFileError(f"{path} is not what imbtune wrote, it {what}: {_fix(name)}")
    return content


def _fix(name: str) -> str:
    """What to do about a file that is missing or changed."""
    if name == THRESHOLD:
        return "restore it from a copy, or choose the threshold again with imbtune threshold"
    return RESTORE


def read_files(store: Store, manifest: Manifest, without: str = "") -> dict[str, bytes]:
    """Check all files that the manifest lists; returns their content by name, without tables.

    Args:
        without: the name of a file that is not needed, and may be damaged.

    Raises:
        DamagedFileError: one is missing, or not what the manifest says.
    """
    contents = {}
    for name, entry in manifest.files.items():
        if entry.before == "" and not store.exists(name):  # it was going to be added
            continue
        if name == without:
            continue
        content = read_file(store, manifest, name)
        if not name.endswith(".parquet"):  # tables may be large
            contents[name] = content
    return contents


def weight_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """The content of `model.safetensors`. Tensors that share memory are written one by one."""
    whole = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    return safetensors.torch.save(whole)


def _write_manifest(
    store: Store, content: Mapping[str, object], files: Mapping[str, Entry]
) -> None:
    listed = {name: entry.to_json() for name, entry in sorted(files.items())}
    store.write(MANIFEST, strict_json.dumps({**content, "files": listed}, indent=1).encode())


def _digest(store: Store, name: str) -> str:
    """The SHA-256 of a file; empty where there is none."""
    return hashlib.sha256(store.read(name)).hexdigest() if store.exists(name) else ""


def _is_later(version: str) -> bool:
    """Whether a version of imbtune is later than this one."""
    return _numbers(version) > _numbers(__version__)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
