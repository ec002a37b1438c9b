"""Every text that a user may give as YAML is read, or refused in one line, within seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from data_files import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.config import yaml_files
from imbtune.config.yaml_files import parse_value, parse_yaml, read_yaml
from imbtune.errors import ConfigError, ImbtuneError

KEYS = st.sampled_from(["mix", "train", "a", "é", "x.y", "10", "null", "on"])
WORDS = """1 1.5 -3 0x1f 010 1e9 1e999 1.0e+999 .inf .nan 2024-01-01 1:30 ~ null true off '' = << &
* ! | > % @ ` {} [] - ? : , &a *a !!int !x [red] /dev/zero"""
SCALARS = st.sampled_from(WORDS.split()) | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEYS, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


def leaves(value: Any) -> list[object]:
    if isinstance(value, dict):
        return [*value, *(leaf for inner in value.values() for leaf in leaves(inner))]
    return (
        [leaf for inner in value for leaf in leaves(inner)] if isinstance(value, list) else [value]
    )


@settings(max_examples=100, deadline=None)
@given(TREES | st.text(max_size=30) | st.text("[]{}:,-&*!|>'\"#%@` \n\tab1", max_size=30))
def test_any_text_is_values_or_one_line(text: str) -> None:
    try:
        found = parse_yaml("a file", text)
    except ConfigError as error:
        message = str(error)
        assert message.startswith("a file") and message.isprintable() and len(message) < 2500
        return
    assert all(isinstance(leaf, str | int | float | None) for leaf in leaves(found))
    assert all(abs(leaf) < 2**63 for leaf in leaves(found) if type(leaf) is int)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(PLAIN)
def test_what_is_written_is_read_back(value: object) -> None:
    """Studies are written by PyYAML; aliases of lists that occur twice are among it."""
    assert parse_yaml("a file", yaml.safe_dump([value, value])) == [value, value]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20))
def test_a_value_of_the_command_line_is_one_line(text: str) -> None:
    try:
        parse_value(text, "--set mix:")
    except ConfigError as error:
        message = str(error)
    else:
        return
    assert message.startswith("--set mix: ") and message.isprintable()


def test_a_file_that_is_none_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path / "pipe.yaml", tmp_path, Path("/dev/zero")):
        with raises_one_line(
            f"{path} is not a file: give the path of a YAML file", kind=ConfigError
        ):
            read_yaml(path)
    with raises_one_line("cannot read", "missing.yaml", kind=ConfigError):
        read_yaml(tmp_path / "missing.yaml")


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_files, "MOST_BYTES", 2**20)
    (tmp_path / "large.yaml").write_bytes(b"a: 1\n" * 300_000)
    with raises_one_line("large.yaml is larger than 1 MiB: give a smaller", kind=ConfigError):
        read_yaml(tmp_path / "large.yaml")


def test_a_large_study_file_is_read() -> None:
    """With tens of thousands of classes, and a byte-order mark as Windows' editors write it."""
    content = {"counts": list(range(5_000)), "classes": [f"class {k}" for k in range(5_000)]}
    text = yaml.dump(content, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper))
    assert parse_yaml("a file", b"\xef\xbb\xbf" + text.encode()) == content


def test_messages_of_any_error_are_short_printable_lines() -> None:
    for message in (
        "x" * 10**6,
        "a\nb\x1b[31m",
        "/".join(["d" * 300] * 40),
        "\udcff",
        "a " * 10**5,
    ):
        line = str(ImbtuneError(message))
        assert line.isprintable() and len(line) < 2500


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows(encoding: str) -> None:
    assert parse_yaml("a.yaml", "about: Käse\r\n".encode(encoding)) == {"about": "Käse"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "latin-1"])
def test_another_encoding_is_told(encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"^a\.yaml is not YAML in UTF-8: save it as UTF-8$"):
        parse_yaml("a.yaml", "about: Käse\n".encode(encoding))
