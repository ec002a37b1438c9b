"""HTTP calls that end: each has a deadline for the whole answer, and a bound on its size.

The timeouts of requests hold for each read, so that they never end an answer of which a byte comes
now and then; and it reads an answer of any size into memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import requests

from imbtune.errors import ClusterError

CALL_SECONDS = 60.0  # for a whole answer
BYTES_PER_SECOND = 10_000  # that a long answer must bring on the average, after `CALL_SECONDS`
MOST_BYTES = 64 * 2**20  # of an answer that is read into memory
BLOCK = 2**16
T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call in a thread of its own, which is left alone if it takes longer.

    Raises:
        TimeoutError: it takes longer.
        Exception: what the call raises.
    """
    found: list[T] = []
    failed: list[BaseException] = []
    too_late = threading.Event()

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)
        if too_late.is_set() and found and isinstance(found[0], requests.Response):
            found[0].close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if failed:
        raise failed[0]
    if not found:
        too_late.set()
        raise TimeoutError(f"no complete answer in {seconds:.0f} s")
    return found[0]


def read_bounded(answer: requests.Response, **_: object) -> None:
    """Read the body of an answer; a hook of requests, which would read more than `MOST_BYTES`.

    Raises:
        ValueError: it has more.
    """
    parts, size = [], 0
    for part in answer.iter_content(BLOCK):
        size += len(part)
        if size > MOST_BYTES:
            answer.close()
            raise ValueError(f"its answer has more than {MOST_BYTES / 2**20:.0f} MiB")
        parts.append(part)
    answer._content = b"".join(parts)


def blocks(
    url: str,
    parameters: Mapping[str, str | int],
    headers: Mapping[str, str],
    verify: bool | str | None,
) -> Iterator[bytes]:
    """The body of an answer in blocks, as they come: it is never in memory as a whole.

    Raises:
        ClusterError: the status is not 200; `str(error)` is the body.
        OSError: nothing answers, or too slowly: `CALL_SECONDS`, and more for a long answer.
    """
    started, size = time.monotonic(), 0

    def get() -> requests.Response:
        return requests.get(
            url,
            params=dict(parameters),
            headers=dict(headers),
            verify=verify,
            stream=True,
            timeout=CALL_SECONDS,
        )

    answer = within(CALL_SECONDS, get)
    received = answer.iter_content(BLOCK)
    is_reading = False
    try:
        while True:
            left = started + CALL_SECONDS + size / BYTES_PER_SECOND - time.monotonic()
            is_reading = True
            block = within(left, lambda: next(received, b""))
            is_reading = False
            if answer.status_code != 200:
                raise ClusterError(block.decode(errors="replace"))
            if not block:
                return
            size += len(block)
            yield block
    finally:
        if not is_reading:  # else `close` would wait for the thread that reads
            answer.close()
