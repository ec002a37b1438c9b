"""`imbtune predict` that is killed: the next command that writes there removes what it left."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from io import FileIO
from pathlib import Path

import pytest

from imbtune.inference.predicting.prediction_file import new_file

WAITS = """
import sys, time
from pathlib import Path
from imbtune.inference.predicting.prediction_file import new_file
with new_file(Path(sys.argv[1])) as hidden:
    hidden.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_the_leftover_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    """And not the file of a process that still writes, nor one of another name."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        for name in ("killed.parquet", "running.onnx")
    ]
    killed, running = processes
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        (tmp_path / ".labels.json.tmp").write_bytes(b"of a store")
        (tmp_path / ".mine.1.tmp").write_bytes(b"of another program")
        left = tmp_path / f".killed.parquet.{killed.pid}.tmp"
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert left.read_bytes() == b"half"
        with new_file(tmp_path / "next.csv") as hidden:
            hidden.write_bytes(b"whole")
        assert not left.exists()
        assert {path.name for path in tmp_path.iterdir()} == {
            *("next.csv", ".labels.json.tmp", ".mine.1.tmp"),
            f".running.onnx.{running.pid}.tmp",
        }
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_nothing_is_left_where_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_file(tmp_path / "a.csv"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_before_it_locks_its_file(tmp_path: Path) -> None:
    """Its file has the name of others that were left, and is removed as they are."""
    killed = "import fcntl, os\nfcntl.flock = lambda *_: os.kill(os.getpid(), 9)"
    found = subprocess.run(
        [sys.executable, "-c", f"{killed}\n{WAITS}", str(tmp_path / "killed.csv")], check=False
    )
    assert found.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with new_file(tmp_path / "next.csv") as hidden:
        hidden.write_bytes(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["next.csv"]


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, list[Path]()

    def remove_first(file: FileIO, how: int) -> None:
        if not removed:
            (path,) = tmp_path.glob(".*.tmp")
            path.unlink()
            removed.append(path)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with new_file(tmp_path / "a.csv") as hidden:
        hidden.write_bytes(b"whole")
    assert removed == [hidden]
    assert (tmp_path / "a.csv").read_bytes() == b"whole"
