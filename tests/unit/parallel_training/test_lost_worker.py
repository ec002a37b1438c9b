"""Which errors mean that another worker has died."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from imbtune.parallel_training.worker_loop import lost_another

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"


@pytest.mark.parametrize("error", [RuntimeError(GLOO), dist.DistBackendError("NCCL error")])
def test_an_exchange_that_fails(error: Exception) -> None:
    assert lost_another(error)


@pytest.mark.parametrize("text", ["Connection refused by my server", "my socket", "it timed out"])
def test_an_error_of_the_users_own_code(text: str) -> None:
    assert not lost_another(RuntimeError(text))
