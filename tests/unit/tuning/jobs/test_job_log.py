"""Logs of any length, in pieces: what is kept of them, and what is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbtune.errors import ClusterError
from imbtune.tuning.jobs import job_log
from imbtune.tuning.jobs.job_log import TAIL_BYTES, Tail, cleaned, decoded, followed, joined, tail

BLOCK = b"a line of a log\n" * 4096


def endless(read: list[int]) -> Iterator[bytes]:
    while True:
        read.append(len(BLOCK))
        yield BLOCK


def test_a_log_of_any_length_is_read_to_a_bound() -> None:
    read: list[int] = []
    found = tail(endless(read), 10_000)
    assert len(found.text) <= TAIL_BYTES
    assert not found.is_whole
    assert sum(read) <= 5 * TAIL_BYTES


@pytest.mark.parametrize(
    ("log", "lines", "is_whole"),
    [(b"", 3, True), (b"a\nb\n", 3, True), (b"a\nb", 2, True), (b"a\nb\nc\n", 3, False)],
)
def test_a_tail_with_all_lines_that_were_asked_for_is_not_the_whole_log(
    log: bytes, lines: int, is_whole: bool
) -> None:
    assert tail([log], lines).is_whole is is_whole


def test_a_log_is_passed_on_before_its_end_has_come() -> None:
    read: list[int] = []
    pieces = cleaned(decoded(endless(read)))
    for count in (1, 2, 3):
        assert next(pieces) == BLOCK.decode()
        assert len(read) == count


def test_a_line_without_an_end_is_passed_on() -> None:
    pieces = cleaned("x" * 1000 for _ in range(1000))
    assert len(next(pieces)) < 2 * job_log.LINE


@given(st.text(), st.integers(1, 9))
def test_the_pieces_are_the_text_whatever_the_blocks(text: str, size: int) -> None:
    content = text.encode(errors="surrogatepass")
    blocks = [content[i : i + size] for i in range(0, len(content), size)]
    assert "".join(cleaned(decoded(blocks))) == "".join(cleaned(decoded([content])))


def test_lines_of_ray_and_control_characters_are_not_passed_on() -> None:
    log = "Running entrypoint for job x: y\na\x1b[2Jb\u202ec\n2026 job_manager.py:5 -- x\nd"
    assert "".join(cleaned(log)) == "a\\x1b[2Jb\\u202ec\nd"


async def sent(*texts: str, ends: bool) -> AsyncIterator[str]:
    for text in texts:
        yield text
    if not ends:
        await asyncio.Event().wait()


def test_a_log_that_is_sent_to_its_end_is_followed() -> None:
    assert list(followed(sent("a\n", "b\n", ends=True), lambda: True)) == ["a\n", "b\n"]


def test_a_log_that_does_not_end_with_its_job_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job_log, "QUIET_SECONDS", 0.01)
    runs = iter([True, True, *[False] * job_log.QUIETS])
    pieces = followed(sent("a\n", ends=False), lambda: next(runs))
    assert next(pieces) == "a\n"
    with pytest.raises(ClusterError, match="has ended, but its log"):
        next(pieces)
    assert list(runs) == []


def test_the_logs_of_a_study_are_joined_until_one_is_not_whole() -> None:
    read: list[str] = []

    def tails() -> Iterator[Tail]:
        for text, is_whole in (("third", True), ("second", False), ("first", True)):
            read.append(text)
            yield Tail(text, is_whole)

    assert joined(tails()) == Tail("second\nthird", is_whole=False)
    assert read == ["third", "second"]
    assert joined([Tail("b", True), Tail("a", True)]) == Tail("a\nb", is_whole=True)
