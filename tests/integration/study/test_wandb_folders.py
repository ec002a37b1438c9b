"""W&B's temporary folders: none of a killed search stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

IMPORTS = """
import json, os, signal, sys, tempfile
from imbtune.study.trackers.wandb import _imported
_imported()
print(json.dumps(os.listdir(tempfile.gettempdir())), flush=True)
sys.stdin.readline()
"""


def test_the_temporary_folders_of_wandb_in_a_killed_search_do_not_stay(tmp_path: Path) -> None:
    """The next search deletes them, but not those of one that runs."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    processes = []
    for count in (1, 2, 2):  # the third one finds those of the first, which runs, and the second
        process = subprocess.Popen(
            [sys.executable, "-c", IMPORTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        processes.append(process)
        assert process.stdout and process.stdin
        folders = json.loads(process.stdout.readline())
        assert len(folders) == count
        assert all(name.startswith("imbtune-wandb-") for name in folders)
        if len(processes) == 2:
            process.kill()
            process.wait()
    for process in processes:
        process.communicate(b"\n")
    assert [process.returncode for process in processes] == [0, -signal.SIGKILL, 0]
    assert not list(tmp_path.iterdir())
