"""A pack: several trials that one process trains in turn, each in a CUDA stream of its own.

On a GPU a turn only queues an epoch, so the epochs of all trials run beside one another. On a CPU
a turn trains it. Knows no Ray.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch

from imbtune.search.worker.gpu_memory import explained
from imbtune.search.worker.trial_runner import TrialRunner
from imbtune.training.rungs import EpochResult, RungResult

Report = dict[str, Any]


class WorkerSlot:
    """A trial's place in a pack, which the next trial takes over. Whoever sits there asks for one
    report at a time."""

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None
        self.runner: TrialRunner | None = None
        self.asked: Future[Report] | None = None
        self._launched: EpochResult | RungResult | None = None

    def begin(self, runner: TrialRunner) -> None:
        self.clear()
        self.runner = runner

    def turn(self) -> Report | None:
        """Read what the last turn launched; a report, or launch what comes next."""
        assert self.runner
        launched, self._launched = self._launched, None
        if launched and (report := self.runner.read(launched)):
            return report
        self._launched = self.runner.launch()
        return None

    def fail(self, error: BaseException) -> None:
        """Answer with the error, if somebody asked. The trial's tensors do not stay with it."""
        asked, self.asked = self.asked, None
        if asked:
            traceback.clear_frames(error.__traceback__)
            asked.set_exception(error)

    def clear(self) -> None:
        """Let the trial go, once nothing that it has queued is left: what it frees may be used by
        the others' streams at once."""
        if self.stream and self.runner:
            self.stream.synchronize()
        self.runner = self._launched = None


class PackedWorker:
    """Trains the trials of all seats, in one thread. A trial that raises fails alone.

    Args:
        make: a trial from its config; called in that thread, as all of the training is.
        device: of the trials.
        gpus: a trial's share of the GPU, to be named where its memory runs out.
        lives: whether the process that a seat is named after is there. The seat of one that is
            not goes to the next newcomer.
    """

    def __init__(
        self,
        make: Callable[[dict[str, Any]], TrialRunner],
        device: torch.device,
        gpus: float = 0.0,
        lives: Callable[[int], bool] = bool,
    ) -> None:
        self.broken: BaseException | None = None  # the device failed: no trial can go on here
        self._make, self._device, self._gpus, self._lives = make, device, gpus, lives
        self._seats: dict[int, WorkerSlot] = {}
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._train, daemon=True).start()

    def step(self, name: int, config: dict[str, Any] | None = None) -> Future[Report]:
        """The next report of the seat's trial; with a config, the first one of a new trial."""
        asked: Future[Report] = Future()
        asked.set_running_or_notify_cancel()  # from here on nobody can cancel it
        self._calls.put(partial(self._ask, name, config, asked))
        return asked

    def leave(self, name: int) -> None:
        """Free the seat."""
        self._calls.put(partial(self._drop, name))

    def _train(self) -> None:
        while True:
            try:
                self._hear()
                for seat in list(self._seats.values()):
                    if seat.asked:
                        self._turn(seat)
            except Exception as error:  # where not even a seat can be made or freed
                self._break(error)

    def _hear(self) -> None:
        """Take the calls that are there; with nothing to train, wait for one."""
        is_idle = not any(seat.asked for seat in self._seats.values())
        while is_idle or not self._calls.empty():
            self._calls.get()()
            is_idle = False

    def _ask(self, name: int, config: dict[str, Any] | None, asked: Future[Report]) -> None:
        if self.broken:
            asked.set_exception(self.broken)
            return
        seat = self._seats.setdefault(name, WorkerSlot())
        seat.asked = asked  # before anything can fail, so that it is answered
        for gone in [other for other in self._seats if other != name and not self._lives(other)]:
            self._drop(gone)
        if self._device.type == "cuda" and not seat.stream:
            seat.stream = torch.cuda.Stream(self._device)
        with self._failing_alone(seat):
            if config is not None:
                seat.begin(self._make(config))
            assert seat.runner
            seat.runner.go_on()

    def _turn(self, seat: WorkerSlot) -> None:
        with self._failing_alone(seat):
            report = seat.turn()
            if report and seat.asked:
                asked, seat.asked = seat.asked, None
                asked.set_result(report)

    def _drop(self, name: int) -> None:
        seat = self._seats.pop(name, None)
        if seat and not self.broken:
            seat.clear()

    @contextmanager
    def _failing_alone(self, seat: WorkerSlot) -> Iterator[None]:
        """Work in the seat's stream; what is raised is the answer to the seat."""
        try:
            with torch.cuda.stream(seat.stream), explained(self._gpus):
                yield
        except torch.AcceleratorError as error:  # CUDA answers everything with it from now on
            self._break(error)
        except Exception as error:
            seat.fail(error)
            seat.clear()

    def _break(self, error: Exception) -> None:
        """Fail all trials: none can go on here."""
        self.broken = error
        for seat in self._seats.values():
            seat.fail(error)
