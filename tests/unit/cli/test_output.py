"""Output never ends a command: no reader, no descriptor, a full disk, another encoding."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from command import invoke
from data_files import raises_one_line

from imbtune.cli.output import check_written, lenient
from imbtune.errors import StorageError
from imbtune.progress import print_line

LINE = "τ ± 0.5 – „ü“ [red] \udcff"


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end of a pipe, and a stream to it as Python makes standard output."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        yield reading, stream


def test_a_reader_that_has_gone(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    output = lenient(stream, stream.fileno())
    print("first", file=output, flush=True)
    assert os.read(reading, 100) == b"first\n"
    os.close(reading)
    for _ in range(3):
        print("second" * 10_000, file=output, flush=True)


def test_a_full_disk() -> None:
    """What an ordinary stream raises on it, a lenient one takes."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        with pytest.raises(OSError, match="No space left"):
            full.write(b"lost")
        stream = io.TextIOWrapper(full, encoding="utf-8")
        output = lenient(stream, full.fileno())
        assert output.write("lost") == 4
        output.flush()
        assert output.write("and more") == 8


def test_a_result_that_was_not_written_is_told(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = io.TextIOWrapper(full, encoding="utf-8")
        monkeypatch.setattr(sys, "stdout", lenient(stream, full.fileno()))
        check_written()
        print("lost")
        with raises_one_line("standard output is not complete (No space left", kind=StorageError):
            check_written()
    reader, writer = pipe
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", lenient(writer, writer.fileno()))
    print("not wanted")
    check_written()


def test_a_full_pipe_that_does_not_block_is_waited_for(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    found: list[int] = []

    def read() -> None:
        while sum(found) < 300_001:
            found.append(len(os.read(reading, 1000)))

    reader = threading.Thread(target=read)
    reader.start()
    print("x" * 300_000, file=lenient(stream, stream.fileno()), flush=True)
    reader.join()
    os.close(reading)
    assert sum(found) == 300_001


def test_a_command_started_without_the_descriptor() -> None:
    """Its output goes nowhere, and takes every character."""
    with lenient(None, 1) as output:
        assert output.name == os.devnull
        assert output.write(LINE) == len(LINE)


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "τ ± 0.5 – „ü“ [red] ?\n"),
        ("latin-1", "? ± 0.5 ? ?ü? [red] ?\n"),
        ("cp1252", "? ± 0.5 – „ü“ [red] ?\n"),
        ("ascii", "? ? 0.5 ? ??? [red] ?\n"),
    ],
)
def test_characters_that_the_encoding_lacks_are_replaced(
    encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding=encoding) as stream:
        print(LINE, file=lenient(stream, stream.fileno()), flush=True)
        assert os.read(reading, 100).decode(encoding) == written
        monkeypatch.setattr("sys.stdout", stream)
        print_line(LINE)
        assert os.read(reading, 100).decode(encoding) == written
        os.close(reading)


def test_a_line_of_a_search_from_python_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default log of the API: a script's standard output is its own, and may be anything."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        print_line(LINE)
        with pytest.raises(OSError, match="space"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    print_line(LINE)  # the file is closed
    monkeypatch.setattr("sys.stdout", None)
    print_line(LINE)
    monkeypatch.setattr("sys.stdout", kept := io.StringIO())
    print_line("a line")
    assert kept.getvalue() == "a line\n"


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    """Brackets are no colours, and colons no pictures."""
    names = "[red]warm[/red] [/b] [link=x] :smile: \\[x]"
    (tmp_path / "[b]mine.yaml").write_text(f"like: digits-lt\nabout: '{names}'\n")
    code, out, _ = invoke("show", "spaces", "--space", f"{tmp_path}/[b]mine.yaml")
    assert code == 0
    assert f" {names} " in out and " [b]mine " in out
