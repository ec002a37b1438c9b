"""Functions run by several processes in one gloo process group, as Ray Train or torchrun has it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from imbtune.training.distributed.workers import Workers

CPU = torch.device("cpu")


def in_group(size: int, folder: Path, function: Callable[[Workers], Any]) -> list[Any]:
    """What `function` returns in each of `size` new processes, by rank; it computes in float64.

    Args:
        folder: for what the processes exchange; it is made.
        function: of a module, so that it can be pickled.
    """
    folder.mkdir(parents=True)
    spawn(_member, args=(size, str(folder), function, sys.path), nprocs=size)
    return [pickle.loads((folder / f"result-{rank}").read_bytes()) for rank in range(size)]


@contextmanager
def float64() -> Iterator[None]:
    """Compute in float64 where imbtune asks for float32."""
    before = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = before  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


def _member(
    rank: int, size: int, folder: str, function: Callable[[Workers], Any], path: list[str]
) -> None:
    sys.path[:] = path
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    with float64():
        result = function(Workers.of_process_group())
    (Path(folder) / f"result-{rank}").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
