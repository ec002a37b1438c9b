"""What the workers of a run send to the command that started them.

Ray Train itself would take reports and checkpoints, but only through a folder that all machines can
write. The mailbox is an actor beside the command, so the command's own folder is enough, and a
checkpoint outlives the workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imbtune.errors import ImbtuneError
from imbtune.final_training.final_run import FinishedSeed


@dataclass(frozen=True)
class Started:
    """All workers are there and begin, or begin again.

    Attributes:
        trained: epochs of the checkpoint that they continue from; 0 for the start.
    """

    trained: int


@dataclass(frozen=True)
class Trained:
    """All workers trained an epoch.

    Attributes:
        epoch: epochs so far.
        loss: after about every tenth of the run, of the last one; else None.
    """

    epoch: int
    loss: float | None


@dataclass(frozen=True)
class Saved:
    """There is a new checkpoint."""


@dataclass(frozen=True)
class Failed:
    """An error which would come again.

    Attributes:
        error: an expected error, to be raised by the command; else the traceback of a bug.
    """

    error: ImbtuneError | str


Message = Started | Trained | Saved | Failed | FinishedSeed


class Mailbox:
    """Messages in their order, and the newest checkpoint. A Ray actor."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._checkpoint: tuple[bytes, int] | None = None

    def put(self, message: Message) -> None:
        """Add a message."""
        self._messages.append(message)

    def take(self) -> list[Message]:
        """The messages since the last call."""
        taken, self._messages = self._messages, []
        return taken

    def save(self, trained: int, checkpoint: bytes) -> None:
        """Replace the checkpoint, of a run after `trained` epochs."""
        self._checkpoint = (checkpoint, trained)
        self._messages.append(Saved())

    def checkpoint(self) -> tuple[bytes, int] | None:
        """The newest checkpoint, and the epochs trained so far."""
        return self._checkpoint


class MailboxHandle:
    """A mailbox on the machine of the process that makes it; it can be sent to workers."""

    def __init__(self) -> None:
        node = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(node, soft=False)
        actor = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here)
        self._actor: Any = actor.remote()

    def put(self, message: Message) -> None:
        """Send a message, and wait until it has arrived."""
        ray.get(self._actor.put.remote(message))

    def take(self) -> list[Message]:
        """The messages since the last call."""
        taken: list[Message] = ray.get(self._actor.take.remote())
        return taken

    def save(self, trained: int, checkpoint: bytes) -> None:
        """Send a checkpoint, and wait until it has arrived."""
        ray.get(self._actor.save.remote(trained, checkpoint))

    def checkpoint(self) -> tuple[bytes, int] | None:
        """The newest checkpoint, and the epochs trained so far."""
        found: tuple[bytes, int] | None = ray.get(self._actor.checkpoint.remote())
        return found

    def close(self) -> None:
        """End the actor."""
        ray.kill(self._actor)
