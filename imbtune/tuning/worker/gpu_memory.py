"""A trial's share of a GPU: how much of its memory, and what is said when that runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imbtune.errors import ConfigError

CONTEXT = 600 * 2**20  # bytes of a CUDA process beside torch's own: context, kernels, libraries
LEAST = 0.01  # of a GPU's memory; torch refuses none at all


def memory_share(gpus: float, total: int) -> float:
    """The share of a GPU's memory that torch may hold in a process with `gpus` of the GPU.

    1/n such processes fit, with what CUDA takes in each of them.

    Args:
        gpus: in (0, 1).
        total: the GPU's memory in bytes.
    """
    return max(LEAST, gpus - CONTEXT / total)


def limit_memory(gpus: float) -> None:
    """A trial that asks for more than its share of the memory fails alone, not its neighbours.

    Without effect where Ray counts a GPU that torch cannot use: the trial trains on the CPU there.
    """
    if 0 < gpus < 1 and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_share(gpus, total))


@contextmanager
def explain_out_of_memory(gpus: float) -> Iterator[None]:
    """Make one line with the mend of torch's "out of memory" on a GPU."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        more = math.floor(10000 / (round(1 / gpus) - 1)) / 10000 if 0 < gpus <= 0.5 else None
        mend = f"--gpus-per-trial {more:g}" if more else "a GPU with more memory"
        said = str(error).partition(". ")[0]
        raise ConfigError(
            f"out of memory with {gpus:g} of a GPU ({said}): give {mend}, or a smaller batch_size"
        ) from error
