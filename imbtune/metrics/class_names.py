"""When two spellings are the name of one class: in data, models, priors, costs and metrics."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def spelling_key(name: str) -> str:
    """What two spellings of one class name have in common.

    Case, spaces around it and the Unicode form do not count: macOS writes é as two characters. The
    case of a single character counts: letters to be recognised are such classes.
    """
    name = unicodedata.normalize("NFC", name.strip())
    return name.casefold() if len(name) > 1 else name


def find_class(name: str, names: Sequence[str]) -> int | None:
    """The index of the class that a name names: the same name, or else the only other spelling.

    None where there is none.
    """
    if name in names:
        return list(names).index(name)
    key = spelling_key(name)
    same = [k for k, other in enumerate(names) if spelling_key(other) == key]
    return same[0] if len(same) == 1 else None
