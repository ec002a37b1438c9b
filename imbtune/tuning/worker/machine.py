"""The machine and the device that a Ray worker trains on."""

from __future__ import annotations

import socket

import ray
import torch

from imbtune.study.records import Machine


def this_machine() -> Machine:
    """Where this worker trains; on a CPU unless Ray gave it a GPU.

    A worker without a share of a GPU could see the machine's GPUs all the same.
    """
    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids()["GPU"]
    return Machine(
        node=context.get_node_id(),
        host=socket.gethostname(),
        device=torch.cuda.get_device_name() if gpus else "cpu",
        gpu=",".join(gpus) or None,
    )
