"""A SIGTERM that comes while Ray starts."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # before any mask is set
from imbtune.tuning.cluster.ray_processes import start_ray
import psutil, ray
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))

def send():
    while not psutil.Process().children():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)  # this thread or the other one takes it

threading.Thread(target=send, daemon=True).start()
try:
    start_ray(num_cpus=1, include_dashboard=False, log_to_driver=False)
    print("started")
except KeyboardInterrupt:
    print("ended")
print(len(got), [c.name() for c in psutil.Process().children()] if not ray.is_initialized() else [])
"""


def test_another_thread_that_takes_it_does_not_end_the_process() -> None:
    """Ray's own handlers would: with exit code 15 and no word, or a stack trace and an abort."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["ended", "1 []"]
    assert "***" not in ended.stderr
