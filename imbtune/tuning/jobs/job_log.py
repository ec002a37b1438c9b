"""The log of a job: its end, the whole of it, or as it comes; in pieces, however long it is."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

from imbtune.errors import ClusterError

TAIL_LINES = 10_000  # of a log that is read for how far a search is
TAIL_BYTES = 4 * 2**20  # at most of these lines
LINE = 2**16  # characters of a longer line are passed on before its end has come
QUIET_SECONDS = 5.0  # without a line, after which a job may have ended
QUIETS = 6  # of these in which the end of the log of an ended job must have come
# What Ray writes into the log of a job: that it sets up the environment, and the command
RAYS_LINES = re.compile(
    r"^(.*\bjob_manager\.py:.*|Running entrypoint for job .*)(\n|\Z)", re.MULTILINE
)
# Characters on which a terminal acts, or that change the direction of the text
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NO_LOG = re.compile(r"file is not found|could not find a log file", re.IGNORECASE)  # Ray's words


@dataclass(frozen=True)
class Tail:
    """The end of a log.

    Attributes:
        text: whole lines, unless a line is very long.
        is_whole: whether it is all that the job has printed.
    """

    text: str
    is_whole: bool


def tail(received: Iterable[bytes], lines: int) -> Tail:
    """The end of a log, of which at most `TAIL_BYTES` are kept, and four times as many are read.

    Args:
        received: the last `lines` lines.
    """
    kept, read, is_whole = b"", 0, True
    for block in received:
        read += len(block)
        kept += block
        if len(kept) > TAIL_BYTES:
            kept, is_whole = kept[-TAIL_BYTES:], False
        if read > 4 * TAIL_BYTES:  # lines of megabytes
            break
    is_whole &= kept.count(b"\n") < lines
    return Tail("".join(cleaned([kept.decode(errors="replace")])), is_whole)


def joined(newest_first: Iterable[Tail]) -> Tail:
    """The logs of a study's jobs as one, the oldest first; no more are read than `TAIL_BYTES`."""
    texts: list[str] = []
    for found in newest_first:
        texts.insert(0, found.text)
        if not found.is_whole or sum(map(len, texts)) > TAIL_BYTES:
            return Tail("\n".join(texts), is_whole=False)
    return Tail("\n".join(texts), is_whole=True)


def decoded(received: Iterable[bytes]) -> Iterator[str]:
    """The text of blocks of bytes; what is no UTF-8 is replaced."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in received:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def cleaned(received: Iterable[str]) -> Iterator[str]:
    """Text without Ray's lines, and with control characters escaped, in pieces of whole lines."""
    rest = ""
    for text in received:
        rest += text
        end = len(rest) if len(rest) > LINE else rest.rfind("\n") + 1
        if end:
            yield _clean(rest[:end])
        rest = rest[end:]
    yield _clean(rest)


def _clean(text: str) -> str:
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], RAYS_LINES.sub("", text))


def followed(received: AsyncIterator[str], still_runs: Callable[[], bool]) -> Iterator[str]:
    """What a job prints, as it comes.

    Args:
        received: ends when the job has ended.
        still_runs: whether the job does; asked after `QUIET_SECONDS` without a line.

    Raises:
        ClusterError: the job has ended, and `received` does not.
    """
    with asyncio.Runner() as runner:
        quiet = 0
        while quiet < QUIETS:
            task = runner.get_loop().create_task(_next(received))
            while not runner.run(_is_done(task)) and quiet < QUIETS:
                quiet = 0 if still_runs() else quiet + 1
            if task.done():
                quiet = 0
                if (text := task.result()) is None:
                    return
                yield text
    raise ClusterError("the job has ended, but its log is not sent to its end")


async def _next(received: AsyncIterator[str]) -> str | None:
    return await anext(received, None)


async def _is_done(task: asyncio.Task[str | None]) -> bool:
    await asyncio.wait({task}, timeout=QUIET_SECONDS)
    return task.done()
