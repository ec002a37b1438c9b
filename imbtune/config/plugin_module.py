"""A plugin: a module of the user's with more parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PluginModule:
    """One plugin.

    Args:
        name: the module's name.
        path: where the file was found; empty for an installed module.
        source: the file's content; None for an installed module.
    """

    name: str
    path: str = ""
    source: bytes | None = None
