"""What each worker of a final run does: it trains its part of every batch."""

from __future__ import annotations

from imbtune.runtime import fewer_collections, keep_freed_memory, limit_thread_spinning

limit_thread_spinning()  # before torch is imported
with fewer_collections():
    import time
    import traceback
    from collections.abc import Sequence
    from dataclasses import dataclass
    from typing import Any

    import ray
    import torch
    import torch.distributed as dist
    from ray.train.torch import get_device

    from imbtune.config.plugin_module import PluginModule
    from imbtune.config.plugins import register
    from imbtune.config.train_config import TrainConfig
    from imbtune.data.splits import Splits
    from imbtune.errors import ImbtuneError
    from imbtune.final_training.final_run import Progress, reported_loss, train_seed
    from imbtune.metrics.metric import Metric
    from imbtune.parallel_training.mailbox import Failed, MailboxHandle, Started, Trained
    from imbtune.training.device.device_data import DeviceData
    from imbtune.training.distributed.workers import Workers

# Parts of the messages of gloo (a RuntimeError with the path of its source file) and of NCCL
LOST = ("/gloo/", "NCCL")


@dataclass(frozen=True, eq=False)
class WorkerTask:
    """What a worker trains.

    Attributes:
        settings: of the configuration, with the seed.
        imports: modules with the user's plugins.
        splits: all training images and, held out, the test images: a reference in Ray.
        mailbox: where messages and checkpoints go.
        threads: CPU threads of each worker.
        on_gpu: whether each worker has a GPU.
        checkpoint_seconds: at least so much time lies between two checkpoints.
        ema: decay of the average of the weights; None without one.
        objectives: metrics whose knobs count for the metrics of their names.
    """

    settings: dict[str, Any]
    imports: tuple[PluginModule, ...]
    splits: ray.ObjectRef[Splits]
    mailbox: MailboxHandle
    threads: int
    on_gpu: bool
    checkpoint_seconds: float
    ema: float | None
    objectives: Sequence[Metric]


def train_worker(config: dict[str, WorkerTask]) -> None:
    """Ray Train's training function: train the run to its end together with the other workers.

    An expected error or a bug goes to the command. A worker that loses another one raises, so that
    Ray Train starts all of them again.

    Args:
        config: the task, under `task`.
    """
    task = config["task"]
    try:
        _train(task)
    except ImbtuneError as error:
        task.mailbox.put(Failed(error))
    except Exception as error:
        if not lost_another(error):
            task.mailbox.put(Failed(traceback.format_exc()))
        raise


def _train(task: WorkerTask) -> None:
    register(task.imports)
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    workers = Workers.of_process_group()
    device = get_device() if task.on_gpu else torch.device("cpu")
    data = DeviceData(ray.get(task.splits), device, workers)
    checkpoint, trained = _newest_checkpoint(task, workers)
    is_first = workers.rank == 0
    if is_first:
        task.mailbox.put(Started(trained))
    saved = time.monotonic()

    def after_epoch(progress: Progress) -> None:
        nonlocal saved
        if not is_first:
            return
        task.mailbox.put(Trained(progress.trained, reported_loss(progress)))
        if time.monotonic() >= saved + task.checkpoint_seconds:
            task.mailbox.save(progress.trained, progress.checkpoint())
            saved = time.monotonic()

    config = TrainConfig.from_settings(task.settings)
    seed = train_seed(config, data, after_epoch, checkpoint, task.ema, task.objectives)
    if is_first:
        task.mailbox.put(seed.finished())


def _newest_checkpoint(task: WorkerTask, workers: Workers) -> tuple[bytes | None, int]:
    """The newest checkpoint and its epoch: that which the first worker finds, for all of them."""
    found = [task.mailbox.checkpoint() if workers.rank == 0 else None]
    if workers.size > 1:
        dist.broadcast_object_list(found, src=0)
    return found[0] or (None, 0)


def lost_another(error: Exception) -> bool:
    """Whether an exchange failed because another worker has died."""
    is_exchange = isinstance(error, RuntimeError) and any(part in str(error) for part in LOST)
    return is_exchange or isinstance(error, dist.DistError)
