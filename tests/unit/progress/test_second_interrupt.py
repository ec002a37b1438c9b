"""The second Ctrl-C ends a command, whatever its main thread does; the first is an exception."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from imbtune.errors import INTERRUPTED

PROGRAM = """
import ctypes, os, threading, time
from imbtune.progress.second_interrupt import end_at_second_interrupt, is_first_interrupt
end_at_second_interrupt()
lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(128)
lock(mutex)  # locked once more, it waits for ever, and returns for no signal
ready = lambda: print("ready", flush=True)
BODY
"""
WAITS = """
try:
    ready()
    time.sleep(600)
except KeyboardInterrupt:
    print('first', flush=True)
    """


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts the program above with a body, and waits until it is ready."""
    started = []

    def run(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.replace("BODY", body)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        assert process.stdout and process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


@pytest.mark.parametrize(
    "ending",
    [
        "time.sleep(600)",  # such as trials that are ended
        "try:\n        time.sleep(600)\n    finally:\n        time.sleep(600)",
        "lock(mutex)",
    ],
    ids=["waits", "waits again", "in a library"],
)
def test_the_second_ends_the_process(
    ending: str, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = start(WAITS + ending)
    process.send_signal(signal.SIGINT)
    assert next_line(process) == "first\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert rest == "ended at once; what was recorded is kept\n"


def test_two_in_a_library_that_takes_no_signal(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start("threading.Timer(0.5, ready).start()\nlock(mutex)")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # else they might become one
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (INTERRUPTED, "ended at once; what was recorded is kept\n")


def test_the_first_alone_is_a_keyboard_interrupt(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = start(WAITS + "print(is_first_interrupt())")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "first\nFalse\n")


def test_a_forked_child_does_not_count_its_signals_for_the_parent(
    start: Callable[[str], subprocess.Popen[str]],
) -> None:
    """Ctrl-C of a terminal goes to both."""
    body = (
        "ready()\nread, write = os.pipe()\nchild = os.fork()\n"
        "if not child:\n    os.write(write, b'.')\n    time.sleep(60)\n"
        "os.read(read, 1)\nos.kill(child, 2)\nos.waitpid(child, 0)\n"
        "print('alive', flush=True)\n"
        "time.sleep(600)"
    )
    process = start(body)
    lines = [next_line(process)]
    while lines[-1] not in ("alive\n", ""):
        lines.append(next_line(process))
    assert lines[-1] == "alive\n"
    process.send_signal(signal.SIGINT)  # its own first one
    rest, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in rest and "ended at once" not in rest


@pytest.mark.parametrize(
    "ignored",
    [
        "os.register_at_fork(after_in_parent=waits)\n    os.fork() or os._exit(0)",
        "one = type('One', (), {'__del__': waits})()\n    del one",
        "one = type('One', (), {})()\n    ref = weakref.ref(one, waits)\n    del one",
    ],
    ids=["at a fork", "in __del__", "in a callback of weakref"],
)
def test_one_that_python_ignores_is_raised_again(
    ignored: str, start: Callable[[str], subprocess.Popen[str]]
) -> None:
    body = f"""
import weakref
def waits(*_):
    ready()
    time.sleep(60)
try:
    {ignored}
    time.sleep(60)
except KeyboardInterrupt:
    print("first", flush=True)
    time.sleep(60)
"""
    process = start(body)
    process.send_signal(signal.SIGINT)
    assert next_line(process) == "first\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (INTERRUPTED, "ended at once; what was recorded is kept\n")
