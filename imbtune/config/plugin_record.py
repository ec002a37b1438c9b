"""What a study records of its plugins, so that it goes on with the same code or says so."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from imbtune.config.plugin_module import PluginModule
from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ConfigError, StudyError
from imbtune.paths import is_uri
from imbtune.storage import Store, join

MANIFEST = "manifest.json"  # of a trained model
# Of a study, of a trained model, and of a training by an earlier version
RECORDS = ("study.yaml", MANIFEST, "results.json")
DIGITS = 12  # of a SHA-256 in a message


def describe(
    modules: Iterable[PluginModule], *, with_path: bool = True
) -> dict[str, dict[str, str]]:
    """The record of each plugin.

    Of a file, its name, where it was found (`from`) and its SHA-256; of an installed module, the
    SHA-256 of its file and the version of its package.

    Args:
        with_path: False for a folder that is given to others, whom the path says nothing.
    """
    entries = {module.name: _entry(module) for module in modules}
    for entry in entries.values():
        if not with_path:
            entry.pop("from", None)
    return entries


def check_sources(modules: Iterable[PluginModule], folder: Store) -> None:
    """Check that the plugin files of a study, or of a trained model, are those of its record.

    Args:
        modules: as found in `folder`.
        folder: a study's; nothing is checked in one without a record.

    Raises:
        StudyError: a file is another one, or is missing.
    """
    modules = tuple(modules)
    record, recorded = _recorded(folder) if modules else ("", {})
    for module in modules:
        entry = recorded.get(module.name, {})
        if "file" not in entry:  # installed
            continue
        if "from" not in entry and record != MANIFEST:  # of an earlier version: `edits` says so
            continue
        found = None if module.source is None else _digest(module.source)
        if found != entry.get("sha256"):
            path = join(folder.path, str(entry["file"]))
            now = f"now {found[:DIGITS]}…" if found else "now missing"
            original = entry.get("from", "")
            fix = "restore it from a copy"
            if original and _digest_of(Path(original)) == entry["sha256"]:
                fix = f"copy {original} there"
            raise StudyError(
                f"{path} is not the file that was trained with (SHA-256 "
                f"{str(entry.get('sha256'))[:DIGITS]}…, {now}): {fix}, or train what is there now "
                "under another name"
            )


def edits(recorded: object, modules: Iterable[PluginModule]) -> list[str]:
    """A line for each plugin whose original has changed since the study recorded it.

    Args:
        recorded: the `imports` of study.yaml.
        modules: the study's plugins, as loaded.
    """
    lines = []
    for module in modules:
        entry = recorded.get(module.name) if isinstance(recorded, Mapping) else None
        if not isinstance(entry, Mapping):
            continue
        if "from" in entry:
            found = _digest_of(Path(entry["from"]))
            if found and found != entry.get("sha256"):
                lines.append(
                    f"{entry['from']} has changed since the study began: the study trains with its "
                    "own copy of what it was"
                )
        elif "file" in entry and module.source and _digest(module.source) != entry.get("sha256"):
            lines.append(f"{module.path} has changed since the study began")
        elif "installed" in entry:
            now = _entry(module)
            if any(now.get(key) != value for key, value in entry.items()):
                lines.append(
                    f"the installed module {module.name} ({entry['installed']}) has changed since "
                    f"the study began: what is left is trained with what is installed now"
                )
    return lines


def _entry(module: PluginModule) -> dict[str, str]:
    if module.source is not None:
        path = module.path if is_uri(module.path) else str(Path(module.path).absolute())
        return {"file": f"{module.name}.py", "from": path, "sha256": _digest(module.source)}
    packages = metadata.packages_distributions().get(module.name.partition(".")[0], [])
    spec = importlib.util.find_spec(module.name)
    digest = _digest_of(Path(spec.origin)) if spec and spec.origin else None
    entry = {"sha256": digest} if digest else {}
    return {**entry, "installed": " ".join(map(_with_version, packages)) or "yes"}


def _recorded(folder: Store) -> tuple[str, Mapping[str, Any]]:
    """The file with the record of a folder, and what it has of each plugin.

    Empty where there is none, or it cannot be read.
    """
    for name in RECORDS:
        try:
            text = folder.read(name).decode()
            content = json.loads(text) if name.endswith(".json") else parse_yaml(name, text)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (ConfigError, ValueError):  # what reads the study or the model says so
            return "", {}
        found = content.get("imports") if isinstance(content, Mapping) else None
        entries = found.items() if isinstance(found, Mapping) else ()
        return name, {module: entry for module, entry in entries if isinstance(entry, Mapping)}
    return "", {}


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _digest_of(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is none that can be read."""
    try:
        return _digest(path.read_bytes())
    except OSError:
        return None


def _with_version(package: str) -> str:
    return f"{package} {metadata.version(package)}"
