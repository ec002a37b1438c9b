"""`--progress`: which view of the progress the user gets."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from imbtune.errors import ConfigError, shown, unknown
from imbtune.progress.json_view import JsonView
from imbtune.progress.log_lines import Log, print_line
from imbtune.progress.plain_view import PlainView
from imbtune.progress.reporter import Reporter, reporting_to

AUTO, LIVE, PLAIN, JSON = "auto", "live", "plain", "json"
VIEWS = (AUTO, LIVE, PLAIN, JSON)
FIXED = ("", "dumb", "unknown")  # $TERM of terminals that cannot move their cursor
Progress = str | Log | None  # one of VIEWS, a function that takes lines, or None for silence


def check_progress(progress: object) -> None:
    """ConfigError for what is no way to show progress, or cannot be here."""
    if progress is None or (callable(progress) and not isinstance(progress, str)):
        return
    if not isinstance(progress, str):
        raise ConfigError(
            f"progress={shown(progress)}: give one of {', '.join(VIEWS)}, a function that takes a "
            "line, or None"
        )
    if progress not in VIEWS:
        raise unknown("--progress", progress, VIEWS)
    if progress == LIVE and not _is_terminal():
        raise ConfigError("--progress live: standard output is no terminal: give plain or json")
    if progress == LIVE and (term := os.environ.get("TERM", "")) in FIXED:
        raise ConfigError(
            f"--progress live: a terminal with TERM={term} cannot move its cursor: give plain or "
            "json"
        )


def chosen_view(progress: str, environment: Mapping[str, str], is_terminal: bool) -> str:
    """The view that `auto` stands for.

    It is live on a terminal that can move its cursor, and where no program reads along ($CI) and
    the user wants no colours either ($NO_COLOR); else plain lines.
    """
    if progress != AUTO:
        return progress
    is_plain = (
        not is_terminal
        or environment.get("TERM", "") in FIXED
        or bool(environment.get("NO_COLOR"))
        or environment.get("CI", "").lower() not in ("", "0", "false")
    )
    return PLAIN if is_plain else LIVE


@contextmanager
def reporting(progress: Progress) -> Iterator[Reporter]:
    """A reporter to the user, as `--progress` says.

    With `json`, whatever else is written to standard output meanwhile goes to standard error.

    Raises:
        ConfigError: there is no such view.
    """
    check_progress(progress)
    with _reporter_to(progress) as reporter, reporting_to(reporter):
        yield reporter


@contextmanager
def _reporter_to(progress: Progress) -> Iterator[Reporter]:
    if progress is None:
        yield Reporter()
    elif not isinstance(progress, str):
        yield Reporter(PlainView(progress, has_time=False))
    elif progress == JSON:
        with _only_json() as stream:
            yield Reporter(JsonView(lambda line: _write(stream, line)))
    elif chosen_view(progress, os.environ, _is_terminal()) == PLAIN:
        yield Reporter(PlainView(print_line))
    else:
        with _live() as reporter:
            yield reporter


@contextmanager
def _live() -> Iterator[Reporter]:
    from imbtune.progress.live_view import LiveView

    reporter = Reporter()
    with reporter.also(LiveView(reporter.lock)):
        yield reporter


@contextmanager
def _only_json() -> Iterator[TextIO]:
    """What standard output was; it is standard error meanwhile, also for libraries in C."""
    stream = sys.stdout
    try:
        is_own = stream.fileno() == 1
    except (OSError, ValueError, AttributeError):
        is_own = False
    if not is_own:  # a test or a notebook has it
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        return
    stream.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with (
            os.fdopen(os.dup(kept), "w", encoding="utf-8") as only,
            contextlib.redirect_stdout(sys.stderr),
        ):
            yield only
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _write(stream: TextIO, line: str) -> None:
    """Write a line at once; one that nobody reads is dropped, as in `print_line`."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(f"{line}\n")
        stream.flush()


def _is_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # none, or a closed one
        return False
