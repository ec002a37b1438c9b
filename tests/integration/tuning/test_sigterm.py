"""A SIGTERM or Ctrl-C that comes while Ray starts."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # before any mask is set
from imbtune.tuning.cluster.ray_processes import start_ray
import psutil, ray
got = []
number = signal.Signals[sys.argv[1]]

def handle(*_):
    got.append(1)
    if number == signal.SIGINT:
        raise KeyboardInterrupt

signal.signal(number, handle)

def send():
    while not psutil.Process().children():
        time.sleep(0.02)
    os.kill(os.getpid(), number)  # this thread or the other one takes it

threading.Thread(target=send, daemon=True).start()
try:
    start_ray(num_cpus=1, include_dashboard=False, log_to_driver=False)
    print("started")
except KeyboardInterrupt:
    print("ended")
print(len(got), [c.name() for c in psutil.Process().children()] if not ray.is_initialized() else [])
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_what_was_started_is_ended(number: str) -> None:
    """With SIGTERM, Ray's own handlers would end the process without a word, or by an abort, when
    another thread takes it; after Ctrl-C, Ray would take seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, number],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == ["ended", "1 []"]
    assert "***" not in ended.stderr
