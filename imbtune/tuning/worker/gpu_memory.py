"""Limits the GPU memory of a trial to its share, and explains errors when it runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from imbtune.errors import ConfigError

CONTEXT = 600 * 2**20  # bytes that CUDA uses in each process besides torch: context, libraries
MIN_MEMORY_SHARE = 0.01  # torch does not accept a limit of 0


def memory_share(gpus: float, total: int) -> float:
    """The share of a GPU's memory that torch may allocate in a process.

    It leaves room for the CUDA context of the process, so that 1/`gpus` processes fit.

    Args:
        gpus: the process's share of the GPU, in (0, 1).
        total: the GPU's memory in bytes.
    """
    return max(MIN_MEMORY_SHARE, gpus - CONTEXT / total)


def limit_memory(gpus: float) -> None:
    """Limit the memory of this process, so that a trial which needs more fails by itself instead of
    making other trials on the GPU fail.

    It has no effect if torch cannot use the GPU that Ray counts: the trial trains on the CPU then.
    """
    if 0 < gpus < 1 and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(memory_share(gpus, total))


@contextmanager
def explain_out_of_memory(gpus: float) -> Iterator[None]:
    """Turn torch's out-of-memory error on a GPU into one line that says how to fix it.

    Args:
        gpus: the trial's share of the GPU.

    Raises:
        ConfigError: the GPU ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        more = math.floor(10000 / (round(1 / gpus) - 1)) / 10000 if 0 < gpus <= 0.5 else None
        fix = f"--gpus-per-trial {more:g}" if more else "a GPU with more memory"
        reason = str(error).partition(". ")[0]
        raise ConfigError(
            f"out of memory with {gpus:g} of a GPU ({reason}): give {fix}, or a smaller batch_size"
        ) from error
