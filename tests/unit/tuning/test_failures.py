"""A trial whose worker is lost goes on; one that raises fails, and can be tried again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.tune.search import Searcher
from scripted import BUDGETS, FAILS, ScriptedSearch, scored_rung, tiny_space, told, trial_report

from imbtune.errors import ConfigError
from imbtune.study.journal import (
    ERROR,
    PRESET,
    RETRY_OF,
    RecordedRung,
    apply_pending_states,
    rungs_of,
    trial_records,
)
from imbtune.tuning.asha import RungScheduler
from imbtune.tuning.execution.common_failure import CommonFailure
from imbtune.tuning.execution.events import Ended, FailureLimits, TrialCallback, TrialEvents
from imbtune.tuning.execution.failures import Failure, exception_line, failure_of, lost_worker
from imbtune.tuning.execution.interrupts import Interrupts
from imbtune.tuning.execution.spec_searcher import ListSearcher
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.retry_failed import enqueue_failed


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize")


# ---- whose fault it is -------------------------------------------------------------------------


class OnlyThereError(Exception):
    """An exception of a class that the driver cannot read."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return int, ("not a number",)


class AcceleratorError(RuntimeError):
    """What torch raises for an error of a GPU."""


def failed_trial(folder: Path, error: Exception | None, text: str = "") -> Any:
    """A trial of Ray Tune's after the error, with the files that Tune writes."""
    (folder / "error.txt").write_text(f"Failure # 1\n{text or error}\n")
    pickled = folder / "error.pkl"
    if error:
        pickled.write_bytes(cloudpickle.dumps(error))
    return SimpleNamespace(
        error_file=str(folder / "error.txt"), pickled_error_file=str(pickled) if error else None
    )


def raised(cause: Exception) -> RayTaskError:
    """The exception of a task, as `ray.get` raises it."""
    error = RayTaskError("train", f"Traceback\n{cause!r}", cause, "p", 1, "ip")
    dual: RayTaskError = error.as_instanceof_cause()
    return dual


@pytest.mark.parametrize(
    "cause",
    [
        ValueError("bad"),
        MemoryError("much"),
        ConfigError("x"),
        KeyError("k"),
        OnlyThereError(),
        OSError(2, "no such file"),
        AcceleratorError("CUDA error: device-side assert triggered"),
    ],
)
def test_an_exception_of_the_trial_is_its_own_fault(cause: Exception, tmp_path: Path) -> None:
    assert lost_worker(failed_trial(tmp_path, raised(cause))) is None


def test_an_exception_that_cannot_be_pickled_is_the_trials_too(tmp_path: Path) -> None:
    """Ray replaces it by a plain RayError, or by one without a pickle."""
    error = RayTaskError("train", "Traceback", RayError("is not serializable"), "p", 1, "ip")
    assert lost_worker(failed_trial(tmp_path, error)) is None
    text = "Traceback (most recent call last):\n  File x\nmine.TwoArgumentsError: a"
    assert lost_worker(failed_trial(tmp_path, None, text)) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "its disk is full"),
        (OSError(5, "Input/output error"), "its disk does not work"),
        (AcceleratorError("CUDA error: uncorrectable ECC error"), "its GPU failed: CUDA error: u"),
    ],
)
def test_an_exception_that_a_broken_machine_causes_is_not(
    error: Exception, reason: str, tmp_path: Path
) -> None:
    assert str(lost_worker(failed_trial(tmp_path, raised(error)))).startswith(reason)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ActorDiedError(), "process"),
        (ActorUnavailableError("The actor is unavailable", b"0" * 16), "process ended"),
        (WorkerCrashedError(), "process ended"),
        (LocalRayletDiedError(), "process ended"),
        (ObjectLostError("0" * 56, b"owner", "stack"), "process ended"),
        (OutOfMemoryError("Task was killed due to the node running low on memory."), "memory was"),
        (NodeDiedError("The node has died, it was preempted"), "machine is gone"),
        (raised(ActorDiedError()), "process ended"),
    ],
)
def test_a_lost_worker_is_not(error: Exception, reason: str, tmp_path: Path) -> None:
    assert reason in str(lost_worker(failed_trial(tmp_path, error)))


def test_what_ray_has_no_name_for_is_not(tmp_path: Path) -> None:
    trial = failed_trial(tmp_path, None, "The node has died")
    assert lost_worker(trial) == "its machine is gone"


def test_the_reason_of_a_failure_is_the_line_of_its_exception(tmp_path: Path) -> None:
    """An expected failure has no traceback; Ray's colours are for a terminal."""
    text = 'Traceback\n  File "x", line 1, in f\n    f()\nValueError: bad'
    failure = failure_of(failed_trial(tmp_path, None, f"\x1b[36mray::x\x1b[39m\n{text}"))
    assert "\x1b" not in failure.traceback
    assert failure.reason == "ValueError: bad" and text in failure.traceback
    text = "Traceback\nimbtune.errors.ConfigError: out of memory"
    assert failure_of(failed_trial(tmp_path, None, text)) == Failure(text.splitlines()[1])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "no error was recorded"),
        ("killed", "killed"),
        (
            'ray::train()\n  File "a", line 3, in step\n    raise x\n    ^^^^^^^\n'
            "torch.AcceleratorError: CUDA error: out of range\nCompile with `X`.\n",
            "torch.AcceleratorError: CUDA error: out of range",
        ),
        (
            'Traceback (most recent call last):\n  File "a", line 1, in f\n    f()\nKeyError: 1\n\n'
            "During handling of the above exception, another exception occurred:\n\n"
            'Traceback (most recent call last):\n  File "b", line 2, in g\n    g()\n'
            "ValueError: two\n  lines indented\nand one that is not\n",
            "ValueError: two",
        ),
    ],
)
def test_a_message_of_several_lines_is_known_by_its_first_one(text: str, line: str) -> None:
    assert exception_line(text) == line


# ---- what becomes of the trial -----------------------------------------------------------------


class Noted(TrialCallback):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def lost(self, spec: TrialSpec, reason: str) -> None:
        self.lines.append(f"{spec.number} lost: {reason}")

    def failed(self, spec: TrialSpec, failure: Failure) -> None:
        self.lines.append(f"{spec.number} failed: {failure.reason}")


class TuneStandIn:
    """Calls searcher and callbacks as Ray Tune does, for one trial at a time."""

    def __init__(self, folder: Path, count: int, limits: FailureLimits) -> None:
        self.searcher = ListSearcher(TrialSpec.single_run(n, {}, False) for n in range(count))
        self.noted, self._folder, self._names, self.limits = Noted(), folder, 0, limits
        self.events = TrialEvents(self.searcher, [self.noted], limits)
        self.trial: Any = None

    def start(self) -> int:
        """The next trial; returns its number."""
        self._names += 1
        name = f"t{self._names}"
        self.trial = SimpleNamespace(
            trial_id=name,
            config=self.searcher.suggest(name),
            temporary_state=SimpleNamespace(ray_actor=None),
        )
        self.events.on_trial_start(0, [self.trial], self.trial)
        return TrialSpec.from_tune(self.trial.config).number

    def report(self, report: TrialReport) -> None:
        result = report.to_tune(3)
        self.searcher.on_trial_result(self.trial.trial_id, result)
        self.events.on_trial_result(0, [self.trial], self.trial, result)

    def error(self, error: Exception) -> None:
        vars(self.trial).update(vars(failed_trial(self._folder, error)))
        self.searcher.on_trial_complete(self.trial.trial_id, error=True)
        self.events.on_trial_error(0, [self.trial], self.trial)


DIED = ActorDiedError()
RUNG = trial_report([scored_rung(0, 1, 0.5)], 0, False)


def test_a_trial_is_suggested_again_until_it_has_lost_too_many_workers_in_a_row(
    tmp_path: Path,
) -> None:
    """A rung that it reaches in between begins a new count."""
    tune = TuneStandIn(tmp_path, 2, FailureLimits(max_failures=2))
    for reaches_rung in (False, False, True, False):
        assert tune.start() == 0
        if reaches_rung:
            tune.report(RUNG)
        tune.error(DIED)
    assert tune.start() == 0
    tune.error(DIED)
    assert tune.noted.lines == ["0 lost: its process ended"] * 4 + [
        "0 failed: 3 workers in a row were lost, at last: its process ended"
    ]
    assert tune.start() == 1


def test_without_retries_the_first_loss_is_a_failure(tmp_path: Path) -> None:
    tune = TuneStandIn(tmp_path, 1, FailureLimits(max_failures=0))
    tune.start()
    tune.error(DIED)
    assert tune.noted.lines == ["0 failed: lost its worker: its process ended"]
    assert tune.searcher.suggest("t9") == Searcher.FINISHED


def test_the_searcher_is_not_finished_while_a_trial_runs(tmp_path: Path) -> None:
    tune = TuneStandIn(tmp_path, 1, FailureLimits())
    tune.start()
    assert tune.searcher.suggest("t9") is None
    tune.error(raised(ValueError("bad")))
    assert tune.noted.lines == ["0 failed: ValueError('bad')"]
    assert tune.searcher.suggest("t10") == Searcher.FINISHED


def test_a_trial_that_hangs_is_ended_and_goes_on_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr("imbtune.tuning.execution.events.ray.kill", killed.append)
    tune = TuneStandIn(tmp_path, 1, FailureLimits(trial_timeout=0.0001))
    for _ in range(2):
        tune.start()
        tune.trial.temporary_state.ray_actor = "the actor"
        while not killed:
            tune.events.on_step_end(0, [tune.trial])
        assert killed.pop() == "the actor"
        tune.events.on_step_end(0, [tune.trial])
        assert not killed  # once
        tune.error(DIED)
    assert tune.noted.lines == [
        "0 lost: it reported nothing for 0 s",
        "0 failed: it hung twice: it reported nothing for 0 s",
    ]


class SharedProcess:
    """Three trials of Tune in one process, of which the second hangs."""

    def __init__(self, tune: TuneStandIn) -> None:
        self.asked: list[set[str]] = []
        self.trials = []
        for number in range(3):
            tune.start()
            actor = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda n=number: f"actor {n}"))
            tune.trial.temporary_state.ray_actor = actor
            self.trials.append(tune.trial)

    def end(self, actors: Collection[str]) -> Ended:
        self.asked.append({*actors})
        return Ended({"actor 1"}, {"actor 0", "actor 2"})


def test_a_trial_that_hangs_ends_its_process_and_its_neighbours_are_not_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even without retries; the one that hung fails at the second time."""
    now = [0.0]
    monkeypatch.setattr("imbtune.tuning.execution.events.time.monotonic", lambda: now[0])
    tune = TuneStandIn(tmp_path, 3, FailureLimits(max_failures=0, trial_timeout=60))
    process = SharedProcess(tune)
    tune.events = TrialEvents(tune.searcher, [tune.noted], tune.limits, None, process.end)
    for trial in process.trials:
        tune.events.on_trial_start(0, process.trials, trial)
    for step in range(0, 70, 4):
        now[0] = float(step)
        tune.events.on_step_end(0, process.trials)
    assert process.asked == [{"actor 0", "actor 1", "actor 2"}]
    for tune.trial in process.trials:
        tune.error(DIED)
    assert tune.noted.lines == [
        "0 lost: a trial in the same process hung",
        "1 failed: lost its worker: it reported nothing for 60 s",
        "2 lost: a trial in the same process hung",
    ]


def test_a_pause_of_the_driver_is_no_silence_of_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it waits for its storage, or was stopped."""
    now, killed = [0.0], list[Any]()
    monkeypatch.setattr("imbtune.tuning.execution.events.time.monotonic", lambda: now[0])
    monkeypatch.setattr("imbtune.tuning.execution.events.ray.kill", killed.append)
    tune = TuneStandIn(tmp_path, 1, FailureLimits(trial_timeout=60))
    tune.start()
    tune.trial.temporary_state.ray_actor = "the actor"
    for step in [*range(0, 50, 5), *range(170, 185, 5)]:
        now[0] = float(step)
        tune.events.on_step_end(0, [tune.trial])
        assert not killed
    for step in range(185, 200, 5):
        now[0] = float(step)
        tune.events.on_step_end(0, [tune.trial])
    assert killed == ["the actor"]


def test_by_default_a_silence_of_minutes_is_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of 30 minutes, or ten times the longest silence of a trial so far."""
    now = [0.0]
    monkeypatch.setattr("imbtune.tuning.execution.events.time.monotonic", lambda: now[0])
    killed: list[Any] = []
    monkeypatch.setattr("imbtune.tuning.execution.events.ray.kill", killed.append)
    tune = TuneStandIn(tmp_path, 1, FailureLimits())
    tune.start()
    tune.trial.temporary_state.ray_actor = "the actor"
    now[0] = 1700.0
    tune.report(trial_report([], None, False))
    for step in range(1700, 18_700, 4):
        now[0] = float(step)
        tune.events.on_step_end(0, [tune.trial])
    assert not killed
    now[0] = 18_701.0
    tune.events.on_step_end(0, [tune.trial])
    assert killed == ["the actor"]


def test_a_second_interrupt_in_a_python_session_is_a_keyboard_interrupt() -> None:
    """The command line ends at once then; a notebook keeps its variables."""
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.stop_all()
        signal.raise_signal(signal.SIGINT)
        assert interrupts.stop_all()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# ---- what the study says -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("late", [1, 3])
def test_a_search_that_loses_workers_ends_as_one_that_does_not(seed: int, late: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    generator = np.random.default_rng(seed)
    ended = []
    for loses in (bool, lambda: bool(generator.random() < 0.4)):
        study = optuna.create_study(direction="maximize")
        ScriptedSearch(study, tiny_space(late), 14, loses=loses).run()
        ended.append([told(trial) for trial in study.trials])
    assert len(ended[0]) == 14 and ended[0] == ended[1]


def test_failed_trials_are_tried_again_as_new_ones(study: optuna.Study) -> None:
    """Once, with the same parameters, as the preset that they were; the old ones stay FAIL."""
    space = tiny_space()
    ScriptedSearch(study, space, 12).run()
    failed = study.trials[FAILS]
    assert failed.state == TrialState.FAIL and failed.user_attrs[ERROR] == "ValueError: bad"
    assert trial_records(study, space, 5, {})[FAILS].row()["error"] == "ValueError: bad"
    assert enqueue_failed(study) == 1 and enqueue_failed(study) == 0
    ScriptedSearch(study, space, 13).run()
    again = study.trials[12]
    assert len(study.trials) == 13 and again.state.is_finished()
    assert again.state != TrialState.FAIL and rungs_of(again)
    assert again.params == failed.params and again.user_attrs[RETRY_OF] == FAILS
    assert study.trials[FAILS].state == TrialState.FAIL


def test_a_preset_that_failed_is_a_preset_again(study: optuna.Study) -> None:
    space = tiny_space()
    search = ScriptedSearch(study, space, 2)
    for name in ("t0", "t1"):
        search.searcher.suggest(name)
        search.searcher.on_trial_complete(name, error=True)
        search.searcher.give_up(name, "3 workers in a row were lost")
    assert enqueue_failed(study) == 2
    ScriptedSearch(study, space, 5).run()
    presets = [trial.user_attrs.get(PRESET) for trial in study.trials]
    assert presets == ["erm", "drw", "erm", "drw", None]
    states = [trial.state for trial in study.trials[2:]]
    assert TrialState.FAIL not in states and TrialState.WAITING not in states


def test_retries_and_new_trials_do_not_join_an_interrupted_trunk(study: optuna.Study) -> None:
    """A search that is killed while it asks for the second trial of a trunk, with retries."""
    space = tiny_space(3)
    search = ScriptedSearch(study, space, 4)
    search.searcher.suggest("t0")
    search.searcher.on_trial_complete("t0", error=True)
    search.searcher.give_up("t0", "ValueError: bad")
    failed = [trial.number for trial in study.trials if trial.state == TrialState.FAIL]
    count = enqueue_failed(study)
    assert count == len(failed)
    ScriptedSearch(study, space, len(study.trials) + 2).run()
    retried = [t for t in study.trials if RETRY_OF in t.user_attrs]
    assert [t.user_attrs[RETRY_OF] for t in retried] == failed
    assert all(t.params == study.trials[t.user_attrs[RETRY_OF]].params for t in retried)
    assert all(t.state.is_finished() and BUDGETS[0] in t.intermediate_values for t in retried)


def test_an_error_that_was_recorded_just_before_a_kill_fails_the_whole_trunk(
    study: optuna.Study,
) -> None:
    """Between its text and the state FAIL; and between the states of two of its trials."""
    space = tiny_space(3)
    ScriptedSearch(study, space, 3).searcher.suggest("t0")
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, ERROR, "ValueError: bad")
    assert trial_records(study, space, 5, {})[0].error is None
    apply_pending_states(study, stopped=(), full_budget=9)
    records = trial_records(study, space, 5, {})
    assert [record.state for record in records] == ["FAIL"] * len(records)
    assert {record.error for record in records} == {"ValueError: bad"}


def test_a_preset_that_leads_is_protected_when_it_comes_again() -> None:
    """Its first trial failed; the second one, with another seed, scores a little less."""
    scheduler = RungScheduler(BUDGETS, 3, never_prune=0)
    rungs = [RecordedRung(0, "erm", 1, 0.75)]
    rungs += [RecordedRung(n, None, 1, 0.76 + n / 100) for n in range(1, 9)]
    rungs += [RecordedRung(9, "erm", 1, 0.74), RecordedRung(10, "drw", 1, 0.73)]
    before = RungScheduler(BUDGETS, 3, never_prune=0).replay(rungs[:9])
    assert scheduler.replay(rungs) == before | {10}


def test_what_goes_into_a_tuner_can_be_pickled_whatever_it_holds() -> None:
    """When a worker dies, Ray replaces `print`, which a log may be. Nothing reads the pickle."""
    searcher = ListSearcher([])
    for held in (searcher, TrialEvents(searcher, [], FailureLimits()), CommonFailure(9)):
        vars(held)["log"] = (line for line in "a generator cannot be pickled")
        assert type(cloudpickle.loads(cloudpickle.dumps(held))) is object
