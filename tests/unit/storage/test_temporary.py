"""Temporary folders of killed processes are removed, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imbtune.storage.temporary import REMNANT_SECONDS, temporary_folder


def old(folder: Path) -> Path:
    """A folder that was last changed long ago."""
    at = folder.stat().st_mtime - 2 * REMNANT_SECONDS
    os.utime(folder, (at, at))
    return folder


def skeleton(place: Path, name: str) -> Path:
    """What a worker of Ray makes again that starts while its search is killed."""
    inner = place / name / "r" / "session_2026" / "logs"
    inner.mkdir(parents=True)
    (place / name / "r" / "session_latest").symlink_to(inner.parent)
    return place / name


def test_what_a_starting_worker_made_again_is_removed(tmp_path: Path) -> None:
    remnant = old(skeleton(tmp_path, "imbtune-ray-or0z6rws"))
    with temporary_folder("tune", tmp_path) as folder:
        assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert not remnant.exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["new", "with a file", "of another name", "a link", "in use"])
def test_what_may_be_anything_else_stays(tmp_path: Path, what: str) -> None:
    folder = skeleton(
        tmp_path, "imbtune-ray-12345678" if what != "of another name" else "imbtune-x"
    )
    if what == "with a file":
        (folder / "r" / "mine").write_text("")
    if what == "in use":
        with temporary_folder("ray", tmp_path) as used, temporary_folder("tune", tmp_path):
            assert old(used).exists()
        folder = old(skeleton(tmp_path, "imbtune-ray-notmarked0"))  # nine letters: another's
    elif what != "new":
        old(folder)
    if what == "a link":
        folder = folder.rename(tmp_path / "elsewhere")
        (tmp_path / "imbtune-ray-12345678").symlink_to(folder)
    with temporary_folder("tune", tmp_path):
        assert folder.exists()
