"""Why a trial ended with an error: its own fault, or that of the machine it ran on."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from ray import cloudpickle, exceptions
from ray.tune.experiment import Trial

from imbtune.errors import first_line

EXPECTED = "imbtune.errors."  # how the error of a trial begins that is not a bug
LOST = (
    exceptions.ActorPlacementGroupRemoved,
    exceptions.LocalRayletDiedError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.ObjectStoreFullError,
    exceptions.OutOfDiskError,
    exceptions.OutOfMemoryError,
    exceptions.RayActorError,
    exceptions.RaySystemError,
    exceptions.RuntimeEnvSetupError,
    exceptions.WorkerCrashedError,
)
BROKEN = {  # errors of the machine that a trial on another one may not meet
    errno.ENOSPC: "its disk is full",
    errno.EDQUOT: "its disk is full",
    errno.EIO: "its disk does not work",
    errno.ESTALE: "its disk is gone",
    errno.ENODEV: "a device of its machine is gone",
}
UNREADABLE = "Traceback|UnserializableException"  # of an exception that the driver cannot read
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # with which Ray's texts are meant for a terminal
CAUSES = (  # what Ray's text about a lost worker says, and what we say
    (r"running low on memory|memory usage threshold", "the machine's memory was nearly full"),
    (r"node (has )?(died|was terminated)|node is dead|drain|preempt", "its machine is gone"),
)


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Attributes:
        reason: in one line.
        traceback: where it is a bug; else empty.
    """

    reason: str
    traceback: str = ""


def failure_of(trial: Trial) -> Failure:
    """The failure of a trial that raised an exception."""
    text = Path(trial.error_file).read_text(encoding="utf-8")  # `get_error` has none yet
    text = COLOUR.sub("", text)
    reason = exception_line(text)
    return Failure(reason, "" if reason.startswith(EXPECTED) else text)


def exception_line(traceback: str) -> str:
    """The line of a traceback that has the exception's type and the first line of its message.

    A message may have several lines: those of CUDA errors end with the same advice.
    """
    lines = traceback.strip().splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith('  File "')]
    after = [line for line in lines[frames[-1] :] if not line.startswith(" ")] if frames else []
    return (after or lines[-1:] or ["no error was recorded"])[0]


def lost_worker(trial: Trial) -> str | None:
    """Why the worker of a failed trial was lost; None where the trial itself raised an exception.

    An exception that the trial raises arrives as a RayTaskError. What is in `LOST` is Ray's: the
    process ended, its machine is gone, or what it needed of the object store is.
    """
    text, file = Path(trial.error_file).read_text(encoding="utf-8"), trial.pickled_error_file
    if not file and re.search(UNREADABLE, text):
        return None
    if file:  # else Ray has neither a task nor an actor to name
        try:
            error = cloudpickle.loads(Path(file).read_bytes())
        except Exception:  # an exception of a class that only the worker has
            return None
        while isinstance(error, exceptions.RayTaskError):
            error = error.cause
        if reason := _broken_machine(error):
            return reason
        if not isinstance(error, LOST):
            return None
    for pattern, words in CAUSES:
        if re.search(pattern, text, re.IGNORECASE):
            return words
    return "its process ended"


def _broken_machine(error: Exception) -> str | None:
    """What is wrong with the machine, by an exception that a trial raised; else None."""
    if isinstance(error, OSError) and error.errno in BROKEN:
        return BROKEN[error.errno]
    is_device = any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__)
    if is_device and "assert" not in str(error):  # an assert in a kernel is the trial's own fault
        return f"its GPU failed: {first_line(error)}"
    return None
