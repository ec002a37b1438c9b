"""What trackers are told, and that nothing they do reaches the search."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_study import make_study
from table_rows import epoch_row, trial_row

from imbtune.errors import ConfigError, StudyError
from imbtune.progress.log_lines import Log, no_line
from imbtune.search_options import search_request
from imbtune.study.files import read_content
from imbtune.study.tables.parquet import Row
from imbtune.study.trackers import background, offline
from imbtune.study.trackers.background import Background
from imbtune.study.trackers.runs import (
    Kind,
    Run,
    TrackedStudy,
    Values,
    class_names,
    curves,
    study_id,
    tracked_study,
)
from imbtune.study.trackers.tracking import Tracking, TrialTracking, check_trackers

CONTENT = {"name": "s", "started": "2026-01-01", "seed": 0, "data": {"classes": ["cat", "dog"]}}
RUN = Run(Kind.TRIAL, 3, {"mix": "mamix", "mix.omega": 0.25}, "mamix_drw")


def study(classes: int = 2, **options: Any) -> TrackedStudy:
    request = search_request("digits-lt", trials=2, epochs=9, **options)
    names = [f"c{k}" for k in range(classes)]
    return tracked_study(request, {**CONTENT, "data": {"classes": names}}, Path())


class Recorder:
    """A tracker that notes what it is told, after `before` was called with its name."""

    title = "T"
    where = "a test"
    tell: Log

    def leave(self) -> None:
        self.told.append("left")

    def __init__(self, before: Callable[[str], object] = str, known: int = 0) -> None:
        self.told: list[Any] = []
        self._before, self._known = before, known

    def begin(self, run: Run) -> int:
        self._before("begin")
        self.told.append(("begin", run.name))
        return self._known

    def epoch(self, run: Run, step: int, row: Row, values: Values) -> None:
        self._before("epoch")
        self.told.append((run.name, step, row["epoch"]))

    def end(self, run: Run, state: str, row: Row, values: Values) -> None:
        self._before("end")
        self.told.append((run.name, state, dict(values)))

    def report(self, path: Path) -> None:
        self.told.append(path)

    def close(self) -> None:
        self._before("close")
        self.told.append("close")


def test_a_tracker_is_told_everything_in_order() -> None:
    lines: list[str] = []
    tracker = Recorder()
    sent = Background(tracker, study(), {"3": [epoch_row(3, 1), epoch_row(3, 2)]}, lines.append)
    sent.epoch(RUN, epoch_row(3, 3))
    sent.end(RUN, "COMPLETE", trial_row(3))
    sent.report(Path("report.html"))
    sent.close()
    assert tracker.told[:4] == [("begin", "3"), ("3", 0, 1), ("3", 1, 2), ("3", 2, 3)]
    name, state, values = tracker.told[4]
    assert (name, state, values["score"], values["budget"]) == ("3", "COMPLETE", 0.5, 9)
    assert not values.keys() & {"mix.omega", "trial", "seed", "ended"}
    assert tracker.told[5:] == [Path("report.html"), "close", "left"]
    assert lines == []


def test_what_a_tracker_has_is_not_sent_again() -> None:
    tracker = Recorder(known=2)
    sent = Background(tracker, study(), {}, print)
    for epoch in (1, 2, 3):
        sent.epoch(RUN, epoch_row(3, epoch))
    sent.again(RUN)  # its worker was lost
    for epoch in (1, 2, 3, 4):
        sent.epoch(RUN, epoch_row(3, epoch))
    sent.close()
    assert tracker.told == [("begin", "3"), ("3", 2, 3), ("3", 3, 4), "close", "left"]


@pytest.mark.parametrize("method", ["begin", "epoch", "end", "close"])
@pytest.mark.parametrize("error", [ValueError("no\nmore"), SystemExit(3), OSError()])
def test_a_tracker_that_raises_is_left_out(method: str, error: BaseException) -> None:
    lines: list[str] = []

    def fail(name: str) -> None:
        if name == method:
            raise error

    sent = Background(Recorder(fail), study(), {}, lines.append)
    sent.epoch(RUN, epoch_row(3, 1))
    sent.end(RUN, "PRUNED", trial_row(3))
    sent.close()
    sent.epoch(RUN, epoch_row(3, 2))  # changes nothing
    sent.check()
    (line,) = lines
    assert line.startswith(f"T is left out from now on: {type(error).__name__}")
    assert "\n" not in line and "more" not in line


def test_a_tracker_that_hangs_is_left_out_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "CALL_SECONDS", 0.2)
    lines: list[str] = []
    released = threading.Event()
    hanging = Background(Recorder(lambda _: released.wait()), study(), {}, lines.append)
    tracker = Recorder()
    other = Background(tracker, study(), {}, lines.append)
    for sent in (hanging, other):
        sent.epoch(RUN, epoch_row(3, 1))
        sent.close()
    assert lines == [
        "T is left out from now on: it has not answered for 0 s; the study has all rows"
    ]
    assert tracker.told == [("begin", "3"), ("3", 0, 1), "close", "left"]
    released.set()


def test_the_end_waits_for_a_slow_tracker_but_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(background, "QUIET_SECONDS", 0.1)
    lines: list[str] = []
    released = threading.Event()
    slow = Background(Recorder(lambda _: released.wait(0.1)), study(), {}, lines.append)
    for epoch in range(100):
        slow.epoch(RUN, epoch_row(3, epoch))
    slow.close()
    released.set()
    first, second = lines
    assert re.fullmatch(r"T has \d+ updates left to take: waiting for it, up to 0 s", first)
    assert second.startswith("T is left out from now on: it needs longer than 0 s")


def test_what_does_not_fit_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_WAITING", 5)
    lines: list[str] = []
    released, begun = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        begun.set()
        released.wait()

    tracker = Recorder(wait)
    sent = Background(tracker, study(), {}, lines.append)
    sent.epoch(RUN, epoch_row(3, 0))
    assert begun.wait(10)
    for epoch in range(1, 9):  # three more than the queue holds
        sent.epoch(RUN, epoch_row(3, epoch))
    released.set()
    sent.close()
    assert [epoch for _, _, epoch in tracker.told[1:7]] == [0, 1, 2, 3, 4, 5]
    assert lines[-1].startswith("T was too slow: ") and "updates were dropped" in lines[-1]


def test_keys_in_an_error_are_not_printed() -> None:
    lines: list[str] = []

    def fail(name: str) -> None:
        raise OSError("no answer of https://me:hidden@mlflow.example/api")

    sent = Background(Recorder(fail), study(), {}, lines.append)
    sent.epoch(RUN, epoch_row(3, 1))
    sent.close()
    assert len(lines) == 1 and "hidden" not in lines[0]


def test_a_trial_that_was_interrupted_before_is_not_begun_again() -> None:
    told: list[str] = []

    class Noted(Tracking):
        def epoch(self, run: Run, row: Row) -> None:
            told.append(f"{run.name} {row['epoch']}")

        def end(self, run: Run, state: str, row: Row) -> None:
            told.append(f"{run.name} {state} {run.preset} {dict(run.settings)}")

    tracking = Noted()
    settings = {1: {"mix": "mamix", "mix.omega": None, "preset": "mamix_drw"}}
    sink = TrialTracking(tracking, settings, [epoch_row(1, 1)])
    sink.epoch(epoch_row(1, 1))  # the study had it
    sink.epoch(epoch_row(1, 2))
    sink.trial(trial_row(0) | {"state": "STOPPED"})
    sink.trial(trial_row(1))
    assert told == ["1 2", "1 COMPLETE mamix_drw {'mix': 'mamix'}"]


def test_a_configuration_by_slot() -> None:
    settings = {"mix": "mamix", "mix.omega": 0.25, "loss": "ce", "epochs": 9, "mix.kappa": None}
    run = Run(Kind.FINAL, 3, settings, seed=17)  # type: ignore[arg-type]
    assert run.nested() == {
        "kind": "final",
        "trial": 3,
        "mix": {"name": "mamix", "omega": 0.25},
        "loss": {"name": "ce"},
        "epochs": 9,
    }
    assert [RUN.name, run.name, Run(Kind.CALIBRATION, 3, {}, seed=1).name] == [
        "3",
        "final-3-17",
        "3-B",
    ]


def test_each_curve_has_one_value_an_epoch() -> None:
    """The trunk and the last cool-down are one curve; the cool-down of a lower rung has its own."""
    last = curves(study(), epoch_row(0, 1) | {"phase": "cooldown"})
    lower = curves(study(), epoch_row(0, 1) | {"phase": "cooldown", "budget": 3})
    assert last["loss"] == 1.5 and last["recall/c0"] == 0.1 and "medium" not in last
    assert lower == {f"rung-3/{name}": value for name, value in last.items()}
    assert not last.keys() & {"epoch", "trial", "budget", "time"}
    many = curves(study(101), epoch_row(0, 1) | {"recall": [0.5] * 101})
    assert "loss" in many and not any(name.startswith("recall/") for name in many)


@given(
    st.lists(st.text(max_size=100) | st.sampled_from(["a", "A", "a/b", "a_b-1", "a:b", "..", ""]))
)
def test_any_classes_have_names_of_their_own_that_trackers_take(classes: list[str]) -> None:
    names = class_names(classes, len(classes))
    assert len({name.lower() for name in names}) == len(classes)
    for name in names:
        assert re.fullmatch(r"[\w -]+", name) and name == name.strip() and len(name) < 90


def test_equal_names_are_numbered() -> None:
    assert class_names(["cat", "a/b", "a:b", "A_b", ""], 7) == [
        "cat",
        "a_b-1",
        "a_b-2",
        "A_b-3",
        "class-4",
        "5",
        "6",
    ]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {name: True}
    request = search_request("digits-lt", trials=2, **options)
    check_trackers(request)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as error:
        check_trackers(request)
    assert str(error.value) == f"--{name} needs {name}: pip install 'imbtune[{name}]'"


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_tracker_is_asked_for_with_true(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"--mlflow .*: give True or False"):
        search_request("digits-lt", trials=2, mlflow=value)


def test_an_upload_that_sends_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's own command tries a server that is down for hours."""
    make_study(str(tmp_path / "s"))
    identity = study_id(read_content(str(tmp_path / "s")))
    run = tmp_path / f"s/wandb/offline-run-20260101_000000-{identity}-0"
    run.mkdir(parents=True)
    begun = list[subprocess.Popen[bytes]]()

    class Hanging(subprocess.Popen[bytes]):
        def __init__(self, command: list[str], **options: Any) -> None:
            assert command[1:4] == ["-m", "wandb", "sync"] and command[-1] == str(run)
            super().__init__(["sleep", "600"], **options)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Hanging)
    monkeypatch.setattr(offline, "SECONDS", 0.0)
    monkeypatch.setattr(offline, "has_key", lambda _: True)
    monkeypatch.setattr(offline, "why_silent", lambda: "")
    with pytest.raises(StudyError, match=r"1 of 1 runs .* uploaded nothing for 0 s"):
        offline.sync_offline(str(tmp_path / "s"), no_line)
    assert [process.returncode for process in begun] == [-signal.SIGKILL]
