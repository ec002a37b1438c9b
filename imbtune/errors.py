"""Expected failures. Each is one line: what is wrong, the value, and the mend.

    ImbtuneError
    ├── ConfigError     a name, knob, range or resource that cannot be
    ├── DataError       a data set that is missing, broken or too small
    ├── StudyError      a study that exists already, or does not
    └── ClusterError    a Ray cluster that cannot be reached

The command line prints an ImbtuneError as one line and exits with 2. Anything else is a bug and
keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ImbtuneError(Exception):
    """The root of all expected failures. Its message is made one line, whatever a library said."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class ConfigError(ImbtuneError):
    """A setting that cannot be: an unknown name, a value out of range, an impossible resource."""


class DataError(ImbtuneError):
    """A data set that is missing, broken, or too small for what is asked of it."""


class StudyError(ImbtuneError):
    """A study that is there already, or one that is not."""


class ClusterError(ImbtuneError):
    """A Ray cluster that cannot be reached."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> ConfigError:
    """The error for a name nobody registered, with the nearest names as the mend."""
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return ConfigError(f"unknown {kind} '{name}': did you mean '{near[0]}'?")
    listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return ConfigError(f"unknown {kind} '{name}': choose one of {listed}")
