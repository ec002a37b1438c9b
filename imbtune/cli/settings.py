"""Shared by commands: reads `KNOB=VALUE`, durations and GPUs; asks; makes the console."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console

from imbtune.config.trust import UntrustedError, consent
from imbtune.config.trust import trust as trust_modules
from imbtune.config.yaml_files import parse_value
from imbtune.errors import ConfigError
from imbtune.limits import SECONDS as LONGEST
from imbtune.progress import line_width
from imbtune.progress.choose_view import JSON
from imbtune.registry import Value

T = TypeVar("T")

NO_BREAK = "\u00a0"  # a space at which no line ends; textwrap keeps it, and it is printed as " "
_UNITS = "%|points|fresh|seeds?|runs?|trials?|finalists?|epochs?|images?|class(?:es)?|s|min|h"
# The spaces in what is read as one: 95 % interval, 0.1 to 0.2 points, 3 fresh seeds, p = 0.2
TOGETHER = (
    rf"(?<=\d) (?=(?:{_UNITS})(?!\w))|(?<=%) (?=interval)|(?<=fresh) (?=seed)"
    r"|(?<=\d) (?=to [-+−]?\d)|(?<=\d to) (?=[-+−]?\d)"
    r"|(?<=\w) (?=[=<±] ?[-+−\d])|(?<=[=<±]) (?=[-+−\d])"
    r"|(?<=\btrial) (?=\d)|(?<=\bseed) (?=\d)|(?<=\bepoch) (?=\d)|(?<=\bclass) (?=\d)"
)
PIPE_WIDTH = 160  # columns of a table that is written to a file or a pipe
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = r"(\d+(?:\.\d+)?)([smhd])"


def parse_settings(pairs: Iterable[str]) -> dict[str, Value]:
    """`["mix=mamix", "data.ratio=50"]` as a dictionary; values as YAML reads them."""
    found: dict[str, Value] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"--set {pair}: give KNOB=VALUE, such as mix=mamix")
        key = key.strip()
        if key in found:
            raise ConfigError(
                f"--set {key} is given twice, as {found[key]} and {value.strip()}: give it once"
            )
        found[key] = parse_value(value, f"--set {key}:")
    return found


def with_trust(action: Callable[[], T], trust: bool) -> T:
    """What `action` returns, after the user was asked about modules that are not trusted yet.

    Args:
        trust: whether such modules may run; None are asked about, then.

    Raises:
        UntrustedError: the user said no, or there is no terminal to ask on.
    """
    while True:
        try:
            with consent(trust):
                return action()
        except UntrustedError as error:
            if trust or not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise
            for module in error.modules:
                print(f"  {module.path or f'{module.name} (installed)'}", file=sys.stderr)
            question = "These modules would run, and can do whatever you can. Run them? [y/N] "
            print(question, end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise
            trust_modules(error.modules)


def parse_duration(text: str | None, option: str = "--time-budget") -> float | None:
    """`90s`, `30m` or `1h30m`, in seconds; None where it is not given.

    The unit must be given: `60` without one might be meant as minutes.
    """
    if text is None:
        return None
    found = re.findall(DURATION, text) if re.fullmatch(f"({DURATION})+", text.strip()) else []
    seconds = sum(float(number) * SECONDS[unit] for number, unit in found)
    if not 0 < seconds <= LONGEST:
        raise ConfigError(f"{option} {text!r}: give a time such as 90s, 30m or 2h, up to ten years")
    return seconds


def parse_share(text: str | None) -> float | str | None:
    """`0.25`, `1` or `auto`; None where it is not given."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(
            f"--gpus-per-trial {text!r}: give 1/n such as 0.25, a whole number, or auto"
        ) from error


def make_console(width: int | None = None) -> Console:
    """The terminal, or a wide page where the output is a file or a pipe; $COLUMNS overrides.

    Names are printed as they are: `[red]` is no colour, and `:x:` no picture.

    Args:
        width: instead of the terminal's or the page's.
    """
    if width is None:
        width = line_width() or PIPE_WIDTH
    sizes = ("COLUMNS", "LINES")  # which rich reads as numbers, whatever they are
    return Console(  # the file is given, since rich asks only a given one for its encoding
        file=sys.stdout,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={key: value for key, value in os.environ.items() if key not in sizes},
    )


@contextmanager
def summary_output(progress: object) -> Iterator[None]:
    """Where the summary of a command goes: to standard error where standard output is JSON."""
    with contextlib.redirect_stdout(sys.stderr) if progress == JSON else nullcontext():
        yield


def print_text(text: str, console: Console) -> None:
    """Print sentences: on a terminal in lines of its width, in a file or a pipe as they are.

    What is continued is indented. Words, such as names and paths, are not cut.
    """
    console.print(fill(text, console), soft_wrap=True, markup=False, emoji=False, highlight=False)


def fill(text: str, console: Console) -> str:
    """The text with lines no longer than the console's; those of a file or a pipe stay whole.

    No line ends inside a number with its unit, a range, `p = 0.2`, or at a :data:`NO_BREAK`.
    """
    if line_width() is None and console.width == PIPE_WIDTH:
        return text.replace(NO_BREAK, " ")
    return "\n".join(
        textwrap.fill(
            re.sub(TOGETHER, NO_BREAK, line),
            console.width,
            subsequent_indent=" " * (indent + 2),
            break_long_words=False,
            break_on_hyphens=False,
        ).replace(NO_BREAK, " ")
        for line in text.split("\n")
        for indent in [len(line) - len(line.lstrip())]
    )
