"""YAML: files, texts and single values, with errors of one line.

A file is checked before its values are made, so a hostile or damaged one is refused within seconds.
It may have aliases, but not so many that they stand for millions of values.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from imbtune.errors import ConfigError, shown
from imbtune.text_encoding import decoded

try:  # libyaml's parser, which the wheels of PyYAML have: ten times as fast
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MOST_BYTES = 16 * 2**20  # of a file: that of a study with 100,000 classes is smaller
MOST_VALUES = 1_000_000  # with those that aliases stand for
MOST_LEVELS = 20  # of lists and mappings in one another
LONGEST_TEXT, LONGEST_KEY = 100_000, 200  # characters
LARGEST_WHOLE = 2**63 - 1

# What YAML refuses, and the control characters that it lets a quoted "\x1b" stand for
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff]")
_NUMBER_OR_NAME = "give a number, or put a name into quotes"
_YAML = "tag:yaml.org,2002:"


class _RefusedError(yaml.MarkedYAMLError):
    """YAML that is not taken for settings."""


class _Values(_Loader):
    """Makes the values; refuses what YAML would silently read as something else."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; a key that is given twice is an error, where YAML would keep the last."""
        first: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(key, "a key is a list or a mapping: give a word")
            if key.tag == f"{_YAML}merge":
                continue
            if len(key.value) > LONGEST_KEY:
                raise _error(key, f"a key of {len(key.value):,} characters: give the name of one")
            value, line = self.construct_object(key), key.start_mark.line + 1
            if value in first:
                lines = (
                    f"lines {first[value]} and {line}" if line > first[value] else f"line {line}"
                )
                raise _error(None, f"'{key.value}' is given twice ({lines}): give it once")
            first[value] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number of 64 bits, in the decimal system or as 0x…."""
        text = node.value.replace("_", "")
        if ":" in text:
            raise _error(node, f"YAML reads {text} as a time: {_NUMBER_OR_NAME}")
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            raise _error(node, f"YAML reads {text} in base 8: leave out the first 0")
        if len(text) > 70 or abs(number := int(super().construct_yaml_int(node))) > LARGEST_WHOLE:
            raise _error(node, f"{text} is larger than any setting: give a smaller number")
        return number

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number that a float can hold."""
        text = node.value.replace("_", "")
        if ":" in text:
            raise _error(node, f"YAML reads {text} as a time: {_NUMBER_OR_NAME}")
        number = float(super().construct_yaml_float(node))
        if math.isinf(number) and "inf" not in text.lower():
            raise _error(node, f"{text} is larger than any setting: give a smaller number")
        return number

    def construct_date(self, node: yaml.ScalarNode) -> None:
        """An error: no setting is a date."""
        raise _error(node, f"YAML reads {node.value} as a date: {_NUMBER_OR_NAME}")

    def construct_merge(self, node: yaml.ScalarNode) -> str:
        """The text `=`, which YAML has a special value for."""
        return str(node.value)


_Values.add_constructor(f"{_YAML}int", _Values.construct_yaml_int)
_Values.add_constructor(f"{_YAML}float", _Values.construct_yaml_float)
_Values.add_constructor(f"{_YAML}timestamp", _Values.construct_date)
_Values.add_constructor(f"{_YAML}value", _Values.construct_merge)


def parse_value(text: str, name: str = "the value", hint: str = "give a number or a word") -> Any:
    """A value from the command line, parsed as YAML.

    Args:
        name: what the value is for, for messages.
        hint: what to give instead of a text that is not YAML.
    """
    try:
        return _parse(text)
    except (yaml.YAMLError, ValueError) as error:
        what = f"{name} {shown(text)}: {_reason(error, with_line=False)}"
        if not isinstance(error, _RefusedError):  # which says what to do
            what += f"; {hint}"
        raise ConfigError(what) from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: the file cannot be read or is not YAML; the message has the file and the line.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end
            raise ConfigError(f"{path} is not a file: give the path of a YAML file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {path} ({reason}): give a YAML file") from error
    return parse_yaml(str(path), content)


def parse_yaml(name: str, content: str | bytes) -> Any:
    """The content of a YAML text.

    Args:
        name: where the text is from, for messages.
        content: the text, or the bytes of a file in UTF-8, or UTF-16 with its mark.

    Raises:
        ConfigError: the text is not YAML; the message has `name` and the line.
    """
    if len(content) > MOST_BYTES:
        raise _too_large(name)
    try:
        return _parse(content if isinstance(content, str) else decoded(content))
    except _RefusedError as error:
        raise ConfigError(f"{name}: {_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not YAML in UTF-8: save it as UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name} is not YAML: {_reason(error)}") from error


def _parse(text: str) -> Any:
    """The value of a text.

    Raises:
        YAMLError, ValueError: it is not YAML, or more of it than a setting needs.
    """
    if bad := _CONTROL.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise ValueError(f"line {line}: it has the control character {bad[0]!r}: remove it")
    _check(text)
    return yaml.load(text, _Values)


def _check(text: str) -> None:
    """YAMLError for what would take long to read, or mean something else than values."""
    open_anchors: list[tuple[str | None, int]] = []  # of open lists and mappings, with the count
    sizes: dict[str, int] = {}  # of what an alias stands for, in values
    count = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_anchors.pop()
            if anchor:
                sizes[anchor] = count - before
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_anchors):
                raise _error(event, f"*{event.anchor} stands for a value that it is in: write it")
            count += sizes.get(str(event.anchor), 0)
        elif isinstance(event, yaml.NodeEvent):
            count += 1
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise _error(event, f"the tag {tag.replace(_YAML, '!!')}: leave it out")
            if isinstance(event, yaml.CollectionStartEvent):
                open_anchors.append((event.anchor, count - 1))
            elif isinstance(event, yaml.ScalarEvent):
                _check_text(event)
                if event.anchor:
                    sizes[event.anchor] = 1
        if len(open_anchors) > MOST_LEVELS:
            raise _error(event, f"more than {MOST_LEVELS} lists or mappings in one another")
        if count > MOST_VALUES:
            raise _error(event, f"more than {MOST_VALUES:,} values: leave some out")


def _check_text(event: yaml.ScalarEvent) -> None:
    if len(event.value) > LONGEST_TEXT:
        raise _error(event, f"a text of {len(event.value):,} characters: shorten it")
    if bad := _CONTROL.search(event.value):
        raise _error(event, f"a text with the control character {bad[0]!r}: remove it")


def _error(place: Any, problem: str) -> _RefusedError:
    """An error at the line of a node or an event; None where the problem names the lines."""
    return _RefusedError(problem=problem, problem_mark=place and place.start_mark)


def _reason(error: Exception, with_line: bool = True) -> str:
    """What is wrong, after the line where YAML knows it."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if not problem:
        return str(error)
    context = getattr(error, "context", None)
    problem = f"{context}, {problem}" if context else problem
    return f"line {mark.line + 1}: {problem}" if mark and with_line else str(problem)


def _too_large(name: str) -> ConfigError:
    return ConfigError(f"{name} is larger than {MOST_BYTES // 2**20} MiB: give a smaller file")
