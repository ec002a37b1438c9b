"""Connects to Ray, and settles what each trial gets of the machine or cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from imbtune.data.splits import Splits
from imbtune.progress.log_file import logged
from imbtune.progress.reporter import Reporter
from imbtune.storage import Store
from imbtune.study.hints import resume_command
from imbtune.study.request import CALIBRATION, SearchRequest
from imbtune.tuning.cluster.connection import connected
from imbtune.tuning.cluster.storage_check import check_storage
from imbtune.tuning.forecast.gpu_share import settle_share
from imbtune.tuning.session import Session, find_resources


@contextmanager
def connected_session(
    request: SearchRequest,
    store: Store,
    splits: Splits,
    reporter: Reporter,
) -> Iterator[Session]:
    """Connect to Ray, or start it; settle the trials' share of the machine; disconnect on exit.

    Args:

    Raises:
        ImbtuneError: no cluster at the address, resources that it does not have, or a machine that
            cannot write to the study.
    """
    again = f"continue with {resume_command(request.path)}"
    if not request.address:
        reporter("Starting Ray")
    with logged(reporter, store), connected(request.address, again):
        if request.address:
            reporter(f"Connected to Ray at {request.address}")
        request = settle_share(request, splits, reporter)
        resources = find_resources(request, reporter)
        if request.address and request.purpose != CALIBRATION:  # which writes no checkpoints
            _check_storage(store, splits, reporter)
        yield Session(request, store, splits, resources, reporter)


def _check_storage(store: Store, splits: Splits, reporter: Reporter) -> None:
    """Check the study's folder from each machine. A folder that is made for it stays only then."""
    is_new = store.is_empty()
    store.create()
    try:
        check_storage(store, splits, reporter)
    except BaseException:
        if is_new and store.local:
            with contextlib.suppress(OSError):
                store.local.rmdir()
        raise
