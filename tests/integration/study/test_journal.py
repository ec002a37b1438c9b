"""The journal of processes that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from imbtune.errors import StudyError
from imbtune.storage import Store
from imbtune.study.journal import open_journal, read_trials
from imbtune.study.optuna_storage import JournalFile


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


HOLDS = """
import sys, time
from imbtune.storage import Store
from imbtune.study.journal import open_journal
with open_journal(Store(sys.argv[1]), "s") as journal:
    journal.study.ask()
    print("open", flush=True)
    time.sleep(600)
"""


def test_a_study_is_one_processs_until_that_is_killed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        line = "is in use by another process: wait"
        with pytest.raises(StudyError, match=line) as refused, open_journal(store, "s"):
            pass
        assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
        assert len(read_trials(store, "s")) == 1
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with open_journal(store, "s") as journal:
            assert [trial.state for trial in journal.study.trials] == [TrialState.RUNNING]
        with open_journal(store, "s"):  # and it lets go at its end
            pass
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()


def test_a_kill_takes_no_entry_back(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from imbtune.study.optuna_storage import JournalFile\n"
        "file = JournalFile(Path(sys.argv[1]))\n"
        "file.append_logs([{'n': 1}]); file.append_logs([{'n': 2}, {'n': 3}])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "journal.log"
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with contextlib.closing(JournalFile(path)) as file:
        assert [entry["n"] for entry in file.read_logs(0)] == [1, 2, 3]
