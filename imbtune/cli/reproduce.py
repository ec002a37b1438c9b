"""`imbtune train --trial`."""

from __future__ import annotations

from pathlib import Path

import typer

from imbtune.errors import ConfigError
from imbtune.progress import print_line


def repeat_command(study: str, number: int, data: Path | None, refused: list[str]) -> None:
    """Repeat a trial; exit code 1 where it differs from the record.

    Args:
        refused: what else was given, and would make it another trial.
    """
    if refused:
        raise ConfigError(
            f"--trial {study} {number} is trained as it was: leave {', '.join(refused)} out"
        )

    from imbtune.tuning.reproduce import repeat_trial

    if repeat_trial(study, number, data, print_line):
        print("Every loss and score is the recorded one, to the last bit.")
        return
    print("It differs from the record: another machine, number of threads, or version of torch?")
    raise typer.Exit(1)
