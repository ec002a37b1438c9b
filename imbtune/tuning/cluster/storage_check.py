"""Checks, from each machine of a cluster, that trials there can write to the study and read images.

It is checked where it is used: a bucket that this machine can write to may be closed to a worker
that has no keys, and a local folder is another one on another machine.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from imbtune.data.images import EncodedPixels
from imbtune.data.splits import Splits
from imbtune.errors import ClusterError, ImbtuneError, some_of
from imbtune.progress import Log
from imbtune.storage import Store

SECONDS = 60.0  # for all machines together to answer
UNSEEN = "unseen"  # the answer where the study's folder is not the one that the driver sees


def check_storage(store: Store, splits: Splits, log: Log) -> None:
    """Check the machines that trials may run on, before the first trial.

    A local folder that a machine does not see is told in one line: trials there write no
    checkpoints. A machine that joins the cluster later is not checked.

    Args:
        store: the study's folder, which exists.

    Raises:
        ClusterError: a machine cannot write to the study, does not have the images that are
            streamed from files, or cannot run imbtune.
    """
    mark = f".{secrets.token_hex(8)}"
    store.write(mark, b"")
    try:
        answers = _answers(store, mark, _files(splits))
    finally:
        store.delete(mark)
    for machine, answer in answers.items():
        if answer not in ("", UNSEEN):
            raise ClusterError(f"the machine {machine} of the cluster {answer}")
    unseen = [machine for machine, answer in answers.items() if answer == UNSEEN]
    if unseen:
        log(
            f"{len(unseen)} of {len(answers)} machines do not see the folder {store.path} "
            f"({some_of(unseen, 5)}): all results are recorded, but "
            "a trial that is interrupted there starts again from its beginning. To keep its "
            "progress, give --storage on a disk or in a bucket that all machines share.\n"
        )


def _answers(store: Store, mark: str, files: Sequence[str]) -> Mapping[str, str]:
    """What each machine with CPUs for trials answers, by its address."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    study = str(store.local.absolute()) if store.local else store.path
    asked = {_ask(node["NodeID"], study, mark, files): _name(node, nodes) for node in nodes}
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS)
    answers = {asked[one]: f"did not answer in {SECONDS:.0f} s: remove it, or wait" for one in late}
    for one in ready:
        try:
            answers[asked[one]] = ray.get(one)
        except RayTaskError as error:
            reason = str(error).strip().rpartition("\n")[2]
            answers[asked[one]] = f"cannot run imbtune ({reason}): install it there"
        except RayError:  # the machine has left meanwhile
            continue
    for one in late:
        ray.cancel(one, force=True)
    return answers


def _ask(node: str, study: str, mark: str, files: Sequence[str]) -> Any:
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(try_storage)
    return task.options(scheduling_strategy=there).remote(study, mark, files)


def _name(node: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> str:
    """The address of a machine; with Ray's ID where another one has the same address."""
    address = str(node["NodeManagerAddress"])
    alike = [other for other in nodes if other["NodeManagerAddress"] == address]
    return address if len(alike) == 1 else f"{address} ({node['NodeID'][:8]})"


def try_storage(study: str, mark: str, files: Sequence[str]) -> str:
    """What is wrong on this machine; nothing, or UNSEEN.

    Args:
        study: its folder, absolute, or its URI.
        mark: the name of a file in it.
        files: images that trials read.
    """
    for file in files:
        if not os.access(file, os.R_OK):
            return f"cannot read the image {file}: put the data at the same path on each machine"
    name = f"{mark}-{os.getpid()}"
    try:
        store = Store(study)
        if not store.exists(mark):
            if store.local:
                return UNSEEN
            raise FileNotFoundError("a file that was just written is not there")
        store.write(name, b"check")
        if store.read(name) != b"check":
            raise OSError("a file was not read as it was written")
        store.delete(name)
    except (ImbtuneError, OSError) as error:
        reason = " ".join(str(error).split())
        return (
            f"cannot write to {study.partition('?')[0]} ({reason}): give it the rights and keys "
            "that this machine has, or give another --storage"
        )
    return ""


def _files(splits: Splits) -> list[str]:
    """Some of the files that images are streamed from; none where workers get the images."""
    found = []
    for images in (splits.train, splits.held_out):
        pixels = images.pixels
        if isinstance(pixels, EncodedPixels) and pixels.are_paths and len(pixels):
            found += [os.fsdecode(pixels.files[row].as_py()) for row in (0, len(pixels) - 1)]
    return [str(Path(file).absolute()) for file in found]
