"""The place where expected errors become a single line."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from imbtune.cli.settings import INTERRUPTED
from imbtune.errors import ImbtuneError


class ErrorBoundary(TyperGroup):
    """Prints expected errors as one line, with exit code 2; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ImbtuneError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:  # while trials run, Ray Tune handles it
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer's: a missing or unknown option
                raise
            print(f"error: {' '.join(error.format_message().split())}", file=sys.stderr)
            raise typer.Exit(2) from error
