"""One process that trains several trials in turn, each in a CUDA stream of its own.

On a GPU a turn only queues an epoch, so the epochs of all trials run concurrently. On a CPU a turn
trains an epoch. Experimental and off by default: it has not been measured on a GPU. Knows no Ray.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue

import torch

from imbtune.training.rungs import Result
from imbtune.tuning.messages import TrialReport, TrialSpec
from imbtune.tuning.worker.gpu_memory import explain_out_of_memory
from imbtune.tuning.worker.trial_runner import TrialRunner


class WorkerSlot:
    """The part of a packed worker that trains one trial after another.

    Attributes:
        stream: the trial's CUDA stream; None on a CPU.
        runner: the trial, or None.
        requested: the report that is waited for, or None. There is at most one.
    """

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None
        self.runner: TrialRunner | None = None
        self.requested: Future[TrialReport] | None = None
        self._launched: Result | None = None

    def begin(self, runner: TrialRunner) -> None:
        """Take another trial."""
        self.clear()
        self.runner = runner

    def turn(self) -> TrialReport | None:
        """Read what the last turn launched; returns a report, or launches what comes next."""
        assert self.runner
        launched, self._launched = self._launched, None
        if launched and (report := self.runner.read(launched)):
            return report
        self._launched = self.runner.launch()
        return None

    def fail(self, error: BaseException) -> None:
        """Answer a waiting request with the error, without the trial's tensors in its traceback."""
        requested, self.requested = self.requested, None
        if requested:
            traceback.clear_frames(error.__traceback__)
            requested.set_exception(error)

    def clear(self) -> None:
        """Drop the trial, once all that it queued has run: its memory may be reused at once."""
        if self.stream and self.runner:
            self.stream.synchronize()
        self.runner = self._launched = None


class PackedWorker:
    """Trains the trials of all slots, in one thread. A trial that raises fails alone.

    Args:
        make: a trial from its spec; called in that thread, as all training is.
        device: of the trials.
        gpus: share of the GPU of a trial, for the error when its memory runs out.
        is_alive: whether the process that a slot is named after is running. The slot of one that
            is not is given to the next trial.

    Attributes:
        broken: the error after which the device cannot be used, or None.
    """

    def __init__(
        self,
        make: Callable[[TrialSpec], TrialRunner],
        device: torch.device,
        gpus: float = 0.0,
        is_alive: Callable[[int], bool] = bool,
    ) -> None:
        self.broken: BaseException | None = None
        self._make, self._device, self._gpus, self._is_alive = make, device, gpus, is_alive
        self._slots: dict[int, WorkerSlot] = {}
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._train, daemon=True).start()

    def step(self, name: int, new_spec: TrialSpec | None = None) -> Future[TrialReport]:
        """The next report of the slot's trial; with a spec, the first one of a new trial."""
        requested: Future[TrialReport] = Future()
        requested.set_running_or_notify_cancel()  # from here on nobody can cancel it
        self._calls.put(partial(self._request, name, new_spec, requested))
        return requested

    def leave(self, name: int) -> None:
        """Free the slot."""
        self._calls.put(partial(self._drop, name))

    def _train(self) -> None:
        while True:
            try:
                self._take_calls()
                for slot in list(self._slots.values()):
                    if slot.requested:
                        self._turn(slot)
            except Exception as error:  # not even a slot can be made or freed
                self._break(error)

    def _take_calls(self) -> None:
        """Run the calls that wait; with nothing to train, wait for one."""
        is_idle = not any(slot.requested for slot in self._slots.values())
        while is_idle or not self._calls.empty():
            self._calls.get()()
            is_idle = False

    def _request(
        self, name: int, new_spec: TrialSpec | None, requested: Future[TrialReport]
    ) -> None:
        if self.broken:
            requested.set_exception(self.broken)
            return
        slot = self._slots.setdefault(name, WorkerSlot())
        slot.requested = requested  # before anything can fail, so that it is answered
        for gone in [other for other in self._slots if other != name and not self._is_alive(other)]:
            self._drop(gone)
        if self._device.type == "cuda" and not slot.stream:
            slot.stream = torch.cuda.Stream(self._device)
        with self._failing_alone(slot):
            if new_spec is not None:
                slot.begin(self._make(new_spec))
            assert slot.runner
            slot.runner.begin_report()

    def _turn(self, slot: WorkerSlot) -> None:
        with self._failing_alone(slot):
            report = slot.turn()
            if report and slot.requested:
                requested, slot.requested = slot.requested, None
                requested.set_result(report)

    def _drop(self, name: int) -> None:
        slot = self._slots.pop(name, None)
        if slot and not self.broken:
            slot.clear()

    @contextmanager
    def _failing_alone(self, slot: WorkerSlot) -> Iterator[None]:
        """Work in the slot's stream; an exception is the answer to the slot's request."""
        try:
            with torch.cuda.stream(slot.stream), explain_out_of_memory(self._gpus):
                yield
        except torch.AcceleratorError as error:  # after it, CUDA fails at every call
            self._break(error)
        except Exception as error:
            slot.fail(error)
            slot.clear()

    def _break(self, error: Exception) -> None:
        """Fail all trials: the device cannot be used any more."""
        self.broken = error
        for slot in self._slots.values():
            slot.fail(error)
