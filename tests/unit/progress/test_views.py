"""Which view a user gets, what goes to search.log, and a live view in a real pseudo-terminal."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_files import raises_one_line
from screen import Screen, Terminal, in_terminal

from imbtune.errors import ConfigError, StorageError
from imbtune.progress.choose_view import check_progress, chosen_view, reporting
from imbtune.progress.live_view import printed
from imbtune.progress.log_file import LogFile, logged
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import FINISHED, TRIALS, RunEnded, StageStarted
from imbtune.storage import Store

STAGE = StageStarted(0.0, TRIALS, 4, budgets=(9,))
XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environment", "is_terminal", "view"),
    [
        (XTERM, True, "live"),
        (XTERM, False, "plain"),
        ({"TERM": "dumb"}, True, "plain"),
        ({"TERM": "unknown"}, True, "plain"),
        ({"TERM": ""}, True, "plain"),
        ({}, True, "plain"),
        ({**XTERM, "NO_COLOR": "1"}, True, "plain"),
        ({**XTERM, "NO_COLOR": ""}, True, "live"),
        ({**XTERM, "CI": "true"}, True, "plain"),
        ({**XTERM, "CI": "1"}, True, "plain"),
        ({**XTERM, "CI": "false"}, True, "live"),
        ({**XTERM, "CI": ""}, True, "live"),
    ],
)
def test_auto_follows_the_terminal(
    environment: dict[str, str], is_terminal: bool, view: str
) -> None:
    assert chosen_view("auto", environment, is_terminal) == view
    assert chosen_view("json", environment, is_terminal) == "json"


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ("lives", "unknown --progress 'lives': did you mean 'live'?"),
        ("", "unknown --progress ''"),
        ("live", "--progress live: standard output is no terminal: give plain or json"),
        (3, "progress=3: give one of auto, live, plain, json, a function that takes a line, or"),
    ],
)
def test_what_is_no_view_is_one_line(progress: object, message: str) -> None:
    with raises_one_line(message, kind=ConfigError):
        check_progress(progress)


def test_json_leaves_standard_output_to_the_objects(capfd: pytest.CaptureFixture[str]) -> None:
    with reporting("json") as reporter:
        print("of a library")
        reporter.tell(STAGE)
        reporter("odd \x1b[31m \ud800 ü\nline")
    print("after")
    out, err = capfd.readouterr()
    lines = out.splitlines()
    found = [json.loads(line, parse_constant=pytest.fail) for line in lines[:-1]]
    assert [each["event"] for each in found] == ["stage_started", "message"]
    assert lines[-1] == "after" and "of a library" in err and "of a library" not in out


def test_silence_and_functions() -> None:
    with reporting(None) as reporter:
        reporter("nobody reads it")
    lines: list[str] = []
    with reporting(lines.append) as reporter:
        reporter("hello")
    assert lines == ["hello"]


def test_an_end_of_standard_output_is_no_end_of_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader of the pipe has gone, or the disk with the log is full."""
    done: list[int] = []
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        for view in ("plain", "json"):
            with reporting(view) as reporter:
                reporter.tell(STAGE)
                reporter.tell(RunEnded(0.0, "trial 0", 0, FINISHED, 0.5, 9))
            done.append(reporter.progress.done)
    assert done == [1, 1]


# ---- search.log ----------------------------------------------------------------------------------


def tell(reporter: Reporter) -> None:
    reporter("before the study exists")
    reporter.tell(STAGE)
    reporter.tell(RunEnded(0.0, "trial 0", 0, FINISHED, 0.5, 9))


def test_the_log_has_all_lines_and_is_appended_to(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for _ in range(2):
        reporter = Reporter(clock=lambda: 0.0)
        with logged(reporter, store):
            tell(reporter)
    lines = (tmp_path / "search.log").read_text().splitlines()
    assert lines == [
        "1970-01-01T00:00:00Z  before the study exists",
        "1970-01-01T00:00:00Z  1/4  trial 0  finished at 9 epochs: 0.500",
    ] * 2  # fmt: skip


def fail(reporter: Reporter, store: Store, error: str, before: Callable[[Reporter], None]) -> None:
    with logged(reporter, store):
        before(reporter)
        raise StorageError(error)


def test_a_start_that_fails_leaves_no_log(tmp_path: Path) -> None:
    """Its folder would be taken for a study's."""
    reporter, store = Reporter(), Store(str(tmp_path / "new"))
    with pytest.raises(StorageError, match="no answer"):
        fail(reporter, store, "no answer", lambda _: reporter("No machine has a GPU yet"))
    assert not (tmp_path / "new").exists()


def test_the_error_that_ends_the_work_is_in_the_log(tmp_path: Path) -> None:
    reporter, store = Reporter(), Store(str(tmp_path))
    with pytest.raises(StorageError, match="the disk fails"):
        fail(reporter, store, "the disk fails", tell)
    assert (tmp_path / "search.log").read_text().endswith("Z  error: the disk fails\n")


def test_a_disk_that_fails_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "append", full)
    reporter = Reporter()
    with logged(reporter, Store(str(tmp_path))):
        tell(reporter)
    assert reporter.progress.done == 1 and not (tmp_path / "search.log").exists()


class Bucket(Store):
    """A folder that is treated as a bucket, and may be out of reach.

    Attributes:
        is_away: whether each operation fails.
    """

    is_away = False

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.local, self._path = None, path

    def with_patience(self, seconds: float) -> Store:
        return self

    def read(self, name: str) -> bytes:
        self._check()
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        self._check()
        (self._path / name).write_bytes(content)

    def _check(self) -> None:
        if self.is_away:
            raise StorageError("no answer")


def test_the_log_of_a_bucket_is_uploaded_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier process wrote stays, also where the bucket is out of reach at the start."""
    monkeypatch.setattr("imbtune.progress.log_file.UPLOAD_SECONDS", 0.0)
    (tmp_path / "search.log").write_text("earlier\n")
    bucket, reporter = Bucket(tmp_path), Reporter(clock=lambda: 0.0)
    bucket.is_away = True
    with reporter.also(LogFile(bucket)):
        tell(reporter)
        reporter.tick()
        assert (tmp_path / "search.log").read_text() == "earlier\n"
        bucket.is_away = False
    lines = (tmp_path / "search.log").read_text().splitlines()
    assert lines[0] == "earlier" and len(lines) == 3


# ---- the live view in a terminal -----------------------------------------------------------------

PROGRAM = """
import os, signal, sys, time, warnings
from imbtune.progress import live_view
from imbtune.progress.choose_view import reporting
from imbtune.progress.run_events import *
live_view.PERIOD = 0.05
now = time.time()
step = (Step(9, 9, 900.0),)
with reporting("auto") as reporter:
    reporter.tell(StageStarted(now, TRIALS, 40, "digits-lt", "runs/s", 2, (9,), resume="resume it"))
    for n in range(30):
        reporter.tell(RunEnded(now, f"trial {n}", n, FINISHED, 0.5, 9, name="erm"))
    reporter.tell(RunStarted(now, "trial 30", "mamix", steps=step))
    BODY
print("after the view")
"""
VIEW = "Ctrl-C ends it"


def is_drawn(screen: Screen) -> bool:
    return any(VIEW in line for line in screen.lines)


def is_drawn_once(screen: Screen) -> bool:
    return sum("30/40 trials" in line for line in screen.lines) == 1 and is_drawn(screen)


@pytest.fixture
def start() -> Iterator[Callable[..., Terminal]]:
    """Starts the program above with a body, in a terminal."""
    started: list[Terminal] = []

    def run(body: str, columns: int = 80, rows: int = 24, **environment: str) -> Terminal:
        code = PROGRAM.replace("BODY", body.replace("\n", "\n    "))
        started.append(in_terminal(code, columns, rows, **environment))
        return started[-1]

    yield run
    for terminal in started:
        terminal.close()


def check_gone(screen: Screen, trials: int = 30) -> None:
    """Nothing of the view is left, and every line of a trial is there once."""
    assert VIEW not in screen.text and "━" not in screen.text and "running" not in screen.text
    for number in range(trials):
        assert screen.text.count(f"trial {number} ".ljust(9)) == 1, screen.text
    assert not screen.is_cursor_hidden


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10)])
def test_lines_scroll_above_the_view_and_it_is_gone_at_the_end(
    start: Callable[..., Terminal], columns: int, rows: int
) -> None:
    terminal = start("time.sleep(0.6)", columns, rows)
    screen = terminal.wait_for(lambda s: sum("30/40" in line for line in s.lines) == 1)
    assert not screen.is_cursor_hidden
    assert terminal.end() == 0
    check_gone(screen)
    assert "after the view" in screen.text


def test_an_exception_leaves_its_traceback_and_no_view(start: Callable[..., Terminal]) -> None:
    terminal = start("time.sleep(0.4)\nraise ValueError('on purpose')")
    assert terminal.end() == 1
    check_gone(terminal.screen)
    assert terminal.screen.text.rstrip().endswith("ValueError: on purpose")


@pytest.mark.parametrize(
    ("body", "code"),
    [("time.sleep(60)", -signal.SIGTERM), ("live_view.leave()\nos._exit(130)", 130)],
)
def test_a_sudden_end_leaves_no_view(body: str, code: int, start: Callable[..., Terminal]) -> None:
    """SIGTERM, and the second Ctrl-C of a search."""
    terminal = start(f"time.sleep(0.4)\n{body}")
    if code < 0:
        terminal.wait_for(is_drawn)
        terminal.send(signal.Signals(-code))
    assert terminal.end() == code
    check_gone(terminal.screen)


def test_ctrl_c_outside_of_the_trials(start: Callable[..., Terminal]) -> None:
    terminal = start("time.sleep(60)")
    terminal.wait_for(is_drawn)
    terminal.press(b"\x03")
    assert terminal.end() in (1, 130, -signal.SIGINT)
    check_gone(terminal.screen)


def test_what_others_print_is_above_the_view(start: Callable[..., Terminal]) -> None:
    """Python, warnings, C libraries and child processes, with colours, bars and half a line."""
    terminal = start(
        "print('from print')\n"
        "warnings.warn('from a warning')\n"
        "os.write(1, b'from C\\n')\n"
        "os.write(2, b'\\x1b[31mred\\x1b[0m \\x1b[2A\\x1b[Kup\\n10%\\r20%\\n')\n"
        "os.system('echo from a child')\n"
        "os.write(1, b'no end')\n"
        "time.sleep(0.6)"
    )
    terminal.wait_for(lambda s: is_drawn_once(s) and "from a child" in s.text)
    assert terminal.end() == 0
    check_gone(terminal.screen)
    for words in ("from print", "from a warning", "from C", "red", "from a child", "no end"):
        assert terminal.screen.text.count(words) >= 1, words
    assert terminal.screen.text.rstrip().endswith("after the view")


@pytest.mark.parametrize("size", [(40, 10), (120, 40), (30, 12), (80, 8)])
def test_a_terminal_that_is_resized(size: tuple[int, int], start: Callable[..., Terminal]) -> None:
    terminal = start("time.sleep(1.2)")
    terminal.wait_for(is_drawn_once)
    terminal.resize(*size)
    terminal.wait_for(lambda s: sum("30/40" in line for line in s.lines) == 1)
    assert terminal.end() == 0
    visible = "\n".join(terminal.screen.lines)
    assert VIEW not in visible and "━" not in visible and "after the view" in visible


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"CI": "true"}])
def test_a_terminal_for_which_plain_lines_are_better(
    environment: dict[str, str], start: Callable[..., Terminal]
) -> None:
    terminal = start("pass", 200, **environment)
    assert terminal.end() == 0
    assert "Z  30/40  trial 29  finished at 9 epochs: 0.500  erm" in terminal.screen.text
    assert VIEW not in terminal.screen.text


def test_a_thread_may_open_the_view() -> None:
    """A signal handler can only be set in the main thread; nothing else is needed there."""
    done: list[bool] = []

    def work() -> None:
        with reporting("plain") as reporter:
            reporter.tell(STAGE)
            done.append(reporter.progress.total == 4)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\tb", "a    b"),
        ("10%\r20%", "20%"),
        ("\x1b[2Aup\x07", "up?"),
        ("\x1b", ""),
    ],
)
def test_what_would_move_the_cursor_is_not_printed(text: str, shown: str) -> None:
    assert printed(text) == shown
