"""YAML: files, texts and single values, with errors of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from imbtune.errors import ConfigError


def parse_value(text: str) -> Any:
    """A value given on the command line, read as YAML reads it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value {text!r}: give a number or a word") from error


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, or ConfigError naming the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_yaml(str(path), text)


def parse_yaml(name: str, text: str) -> Any:
    """The content of a YAML text, or ConfigError naming its source and the line."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name} is not YAML: {reason}") from error
