"""Which of the user's modules may run where they come with a study, a configuration or a model.

Such a folder may be somebody else's, and running a module is running its author's code. So only
modules run that this user has searched or trained with before, or has confirmed. Their SHA-256 are
in ~/.config/imbtune/trusted-modules (or $XDG_CONFIG_HOME), a file that only this user can read and
write. Ray's workers get modules from the process that runs the search, and do not ask.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from imbtune.config.plugin_module import PluginModule
from imbtune.errors import ImbtuneError

_consent: ContextVar[bool] = ContextVar("consent", default=False)
_accepted: set[str] = set()  # of this process, also where the file cannot be written


class UntrustedError(ImbtuneError):
    """A folder has modules that this user has not run before.

    Attributes:
        modules: that would run.
    """

    def __init__(self, where: str, modules: tuple[PluginModule, ...]) -> None:
        names = ", ".join(module.name for module in modules)
        several = len(modules) > 1
        super().__init__(
            f"{where}: the module{'s' * several} {names} would run, and you have not run "
            f"{'them' if several else 'it'} before: read {'them' if several else 'it'}, then add "
            "--trust (in Python: trust=True)"
        )
        self.modules = modules


@contextmanager
def consent(given: bool) -> Iterator[None]:
    """Whether modules that are not trusted yet may run inside the block; they are then trusted."""
    token = _consent.set(given or _consent.get())
    try:
        yield
    finally:
        _consent.reset(token)


def check_trusted(modules: Iterable[PluginModule], where: str) -> None:
    """Check that modules may run.

    Args:
        where: their folder, for the message.

    Raises:
        UntrustedError: the user has neither run one of them before nor consented.
    """
    known = _accepted | _read()
    unknown = tuple(module for module in modules if _line(module) not in known)
    if unknown and not _consent.get():
        raise UntrustedError(where, unknown)
    trust(unknown)


def trust(modules: Iterable[PluginModule]) -> None:
    """Let modules run from now on, also in other processes of this user.

    Where the file cannot be written, they are trusted in this process alone.
    """
    new = dict.fromkeys(map(_line, modules))
    _accepted.update(new)
    known = _read()
    lines = "".join(f"{line}\n" for line in new if line not in known)
    if not lines:
        return
    with contextlib.suppress(OSError):
        file = trust_file()
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists() and not _is_private(file.stat()):  # others may have written into it
            file.unlink()
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as stream:
            stream.write(lines)


def trust_file() -> Path:
    """The list of trusted modules."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "imbtune" / "trusted-modules"


def _read() -> set[str]:
    """The lines of the list; none where it is missing, or where others could have written it."""
    try:
        with trust_file().open(encoding="utf-8") as stream:
            if _is_private(os.fstat(stream.fileno())):
                return set(stream.read().splitlines())
    except (OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: there is no home folder
        pass
    return set()


def _is_private(status: os.stat_result) -> bool:
    """Whether a file is this user's, and nobody else can write it."""
    own = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
    return own and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _line(module: PluginModule) -> str:
    """What the list has for a module: the hash of a file, the name of an installed module."""
    if module.source is None:
        return f"installed {module.name}"
    return f"sha256 {hashlib.sha256(module.source).hexdigest()}"
