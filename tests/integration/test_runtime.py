"""How a process waits and keeps memory, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from imbtune.tuning.packing.ray_hosts import ONE_ARENA

FAULTS = """
import resource
import torch
from imbtune.runtime import keep_freed_memory

def faults(count, size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(size) for _ in range(count)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
"""
HERE = """
faults(4, 2**22)  # 16 MiB each, freed in turn; the first time, memory is asked for
print(faults(4, 2**22))
"""
IN_A_THREAD = """
import threading
def run():
    faults(1, 2**25)  # 128 MiB: more than a thread's own arena can hold
    print(faults(1, 2**25))
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def run(code: str, **settings: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | settings, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("where", "settings"),
    [(HERE, {}), (IN_A_THREAD, ONE_ARENA)],
    ids=["here", "in a pack's thread"],
)
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_was_freed_is_not_asked_for_again(where: str, settings: dict[str, str]) -> None:
    """Without it the same loop has 4,096 faults for each block, or one for each huge page."""
    assert int(run(FAULTS + where, **settings)) < 100


@pytest.mark.parametrize(
    ("settings", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_wait_without_spinning_unless_the_user_says_how(
    settings: dict[str, str], spins: str
) -> None:
    """Set by the command before it imports torch, which reads it then; its workers inherit it."""
    code = "import os, sys, imbtune.cli.main as cli; cli.app = lambda: None; cli.main(); "
    code += "assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert run(code, **settings) == spins


def test_who_imports_a_part_of_imbtune_keeps_the_collector_of_python() -> None:
    code = (
        "import gc; was = gc.get_threshold(); import imbtune.tuning.run_search, imbtune.cli.main\n"
    )
    asked = (
        code + "assert gc.isenabled() and gc.get_threshold() == was and not gc.get_freeze_count()"
    )
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0
