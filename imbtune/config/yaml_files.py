"""YAML: files, texts and single values, with errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from imbtune.errors import ConfigError


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping with a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, key) is not key:
                lines = [mark.start_mark.line + 1 for mark in (first[key.value], key)]
                raise yaml.constructor.ConstructorError(
                    problem=f"'{key.value}' is given twice (lines {lines[0]} and {lines[1]}): give "
                    "it once"
                )
        return super().construct_mapping(node, deep)


def parse_value(text: str) -> Any:
    """A value from the command line, parsed as YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value {text!r}: give a number or a string") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: the file cannot be read or is not YAML; the message has the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_yaml(str(path), text)


def parse_yaml(name: str, text: str) -> Any:
    """The content of a YAML text.

    Args:
        name: where the text is from, for messages.

    Raises:
        ConfigError: the text is not YAML; the message has `name` and the line.
    """
    try:
        return yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not YAML: {reason}") from error
