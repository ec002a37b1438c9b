"""The place where expected errors become a single line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from imbtune.cli.output import check_written
from imbtune.credentials import CredentialsError, check_no_credentials
from imbtune.errors import EXPECTED, INTERRUPTED, ConfigError, ImbtuneError

_WORDS = "imbtune.words"  # in a context: the command line
BOUNDS = ("ge", "gt", "le", "lt")
NUMBERS = {  # pydantic's kinds of errors
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "a number of at least {ge}",
    "greater_than": "a number above {gt}",
    "less_than_equal": "a number of at most {le}",
    "less_than": "a number below {lt}",
}
PRINTING = ("list", "logs", "plan", "query", "show", "status")  # commands whose result is printed

# Packages that a machine on which models are only used need not have, and how to install them
NOT_FOR_MODELS = {"optuna": "optuna", "ray": "ray[train,tune]", "wandb": "wandb"}

# What is left of an interrupted command that writes one file, and does so at its end
UNWRITTEN = dict.fromkeys(
    ("predict", "evaluate", "export"),
    ": nothing was written: give the same command again",
)


class ErrorBoundary(TyperGroup):
    """Prints expected errors as one line, with exit code 2; a bug keeps its traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = list(args)  # before options are taken out of them
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # an option before the command
            words = ctx.meta[_WORDS]
            if not words or not hasattr(error, "format_message"):  # without words: the help
                raise
            message = error.format_message().rstrip(".")
            print(f"error: {ConfigError(f'{message}: give a command first')}", file=sys.stderr)
            raise typer.Exit(EXPECTED) from error

    def invoke(self, ctx: Any) -> Any:
        try:
            _check_words(ctx.meta[_WORDS])
            result = super().invoke(ctx)
            if ctx.invoked_subcommand in PRINTING:
                check_written()
            return result
        except ImbtuneError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(EXPECTED) from error
        except KeyboardInterrupt as error:  # while trials run, Ray Tune handles it
            left = f": {error}" if error.args else UNWRITTEN.get(str(ctx.invoked_subcommand), "")
            print(f"interrupted{left}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            if package not in NOT_FOR_MODELS:
                raise
            line = f"imbtune {ctx.invoked_subcommand} needs {package}, which is not installed"
            install = f"pip install {shlex.quote(NOT_FOR_MODELS[package])}"
            print(f"error: {line}: {install}", file=sys.stderr)
            raise typer.Exit(EXPECTED) from error
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer's: a missing or unknown option
                raise
            print(f"error: {ConfigError(error.format_message())}", file=sys.stderr)
            raise typer.Exit(EXPECTED) from error


class OnceCommand(TyperCommand):
    """Refuses an option that is given twice, of which typer would use the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        parser = self.make_parser(ctx)
        options = [p for p in self.get_params(ctx) if isinstance(p, TyperOption)]
        single = [option for option in options if not option.multiple]
        for option in single:  # registered again, the parser collects all of its values
            for names, value in ((option.opts, True), (option.secondary_opts, False)):
                if names and option.is_flag:
                    parser.add_option(
                        obj=option, opts=names, dest=option.name, action="append_const", const=value
                    )
                elif names:
                    parser.add_option(
                        obj=option, opts=names, dest=option.name, action="append",
                        nargs=option.nargs,
                    )  # fmt: skip
        given, _, _ = parser.parse_args(args=list(args))
        for option in single:
            values = given.get(str(option.name))
            if isinstance(values, list) and len(values) > 1:
                shown = " and ".join(map(_shown, values))
                times = f"given {len(values)} times" + ("" if option.is_flag else f", as {shown}")
                raise ConfigError(f"{option.opts[0]} is {times}: give it once")
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            name = getattr(getattr(error, "param", None), "name", None)
            values = given.get(name) if name and hasattr(error, "format_message") else None
            shown = _shown(values[0]) if isinstance(values, list) and values else ""
            if not shown or shown in error.format_message():  # type: ignore[attr-defined]
                raise
            meant = next((o for o in options if o.name == name), None)
            wanted = _wanted(error.__cause__)
            if meant is not None and meant.nargs > 1:
                wanted = f"{meant.metavar}, in this order"
            if meant is not None and wanted:
                raise ConfigError(f"{meant.opts[0]} {shown}: give {wanted}") from error
            message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
            raise ConfigError(f"{message}, and it is {shown}") from error


class Commands(typer.Typer):
    """An application whose commands refuse options that are given twice."""

    def command(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        return super().command(*args, **{"cls": OnceCommand, **options})


def _check_words(words: list[str]) -> None:
    """ConfigError for a word with a key or a password, which any later message might repeat."""
    for before, word in zip(("", *words), words, strict=False):
        option, equals, _ = word.partition("=")
        named = option if word.startswith("--") and equals else before
        try:
            check_no_credentials(word)
            name, _, value = word.partition("=")
            if ":" not in name:  # --storage=URI, KNOB=URI; else a URI, with options of its own
                check_no_credentials(value)
        except CredentialsError as error:
            what = named if named.startswith("--") else "an argument"
            raise ConfigError(f"{what}: {error}") from error


def _wanted(error: object) -> str:
    """What a number must be instead, by the error of pydantic that typer converts values with."""
    if not hasattr(error, "errors"):
        return ""
    found = error.errors()[0]
    bound = {
        key: f"{value:,}" if isinstance(value, int) else f"{value:g}"
        for key, value in found.get("ctx", {}).items()
        if key in BOUNDS
    }
    is_nan = str(found["input"]).strip().lower() in ("nan", "+nan", "-nan")
    wanted = NUMBERS.get("finite_number" if is_nan else found["type"], "")
    return wanted.format(**bound) if bound or "{" not in wanted else ""


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value) or "''"
