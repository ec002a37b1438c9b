"""YAML: files, texts and single values, with errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from imbtune.errors import ConfigError


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
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not YAML: {reason}") from error
