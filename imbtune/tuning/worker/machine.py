"""The machine and the device that a Ray worker trains on."""

from __future__ import annotations

import socket

import ray
import torch

from imbtune.study.records import Machine


def this_machine() -> Machine:
    """Where this worker trains; on a CPU unless Ray gave it a GPU.

    A worker without a share of a GPU could see the machine's GPUs all the same. One with a GPU that
    torch cannot use, for want of a driver or of torch's CUDA build, trains on a CPU.
    """
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids()["GPU"]
    usable = bool(gpus) and torch.cuda.is_available()
    return Machine(
        node=context.get_node_id(),
        host=socket.gethostname(),
        device=torch.cuda.get_device_name() if usable else "cpu",
        gpu=",".join(gpus) or None,
    )
