"""The largest values that imbtune takes: every count, size and length has its bound here.

They are far above what anyone trains, and low enough that a mistyped number is refused at once
instead of filling the memory or running for hours before the first trial.
"""

from __future__ import annotations

from imbtune.errors import ConfigError, shown

TRIALS = 100_000
CALIBRATION_TRIALS = 10_000  # random configurations, each trained with two seeds
SEEDS = 1000  # runs of one configuration
FINALS = 10_000  # finalists, and fresh seeds of each
SEED = 10**18  # Parquet and torch hold it, with a trial's number added
EPOCHS = 100_000
BATCH_SIZE = 65_536
RUNGS = 20
ETA = 1000  # the reduction factor of the rungs
LATE_VARIANTS = 64
CHOICES = 1000  # of one searched knob; searched knobs, presets, tags
IMAGE_SIZE = 4096  # pixels of a side
PROCESSORS = 100_000  # CPUs or GPUs in all, and trials at a time
SECONDS = 10 * 365 * 86_400  # ten years
PRICE = 1e9
FAR = 50_000  # bounds of knobs from here on are not named with their range: nobody meets them
NUMBER = 10**9  # of a knob that declares no upper bound

NAME_BYTES = 180  # of a study: with what is added to it, a file system's 255 are enough
WANDB_NAME = 128  # characters of a project, a group or a run's name in W&B
FILE_NAME_BYTES = 255  # of a file system
PATH_BYTES = 3500  # Linux takes 4,095: the rest is for what is written below it
URI_BYTES = 900  # S3 takes 1,024 for a key
ABOUT = 1000  # characters of a space's description

WHOLE = {  # the least and the largest value of options that are whole numbers
    "trials": (1, TRIALS),
    "seed": (0, SEED),
    "cpus_per_trial": (1, PROCESSORS),
    "max_concurrent": (1, PROCESSORS),
    "finals": (0, FINALS),
    "final_seeds": (1, FINALS),
    "max_failures": (0, FINALS),
    "seeds": (1, SEEDS),
    "epochs": (1, EPOCHS),
    "workers": (1, PROCESSORS),
    "cpus": (1, PROCESSORS),
    "gpus": (1, PROCESSORS),
}


def check_whole(
    option: str, value: object, optional: bool = False, bounds: tuple[int, int] | None = None
) -> None:
    """ConfigError for a value that is no whole number within the option's bounds.

    Args:
        option: the name of a keyword argument, one of `WHOLE` unless `bounds` are given.
        optional: None is accepted, too.
        bounds: the least and the largest value, instead of those in `WHOLE`.
    """
    if optional and value is None:
        return
    least, most = bounds or WHOLE[option]
    if type(value) is not int or value < least:  # a bool is an int too
        end = f"to {most}" if most <= SEEDS else "on"  # a bound that somebody may meet is named
        raise ConfigError(f"{flag(option)} {shown(value)}: give a whole number from {least} {end}")
    if value > most:
        raise ConfigError(f"{flag(option)} {shown(value)}: give at most {most:,}")


def check_name(what: str, name: str) -> None:
    """ConfigError for a name that is too long for a folder."""
    if (size := len(name.encode(errors="surrogateescape"))) > NAME_BYTES:
        raise ConfigError(
            f"{what} {shown(name)} has {size:,} bytes: give at most {NAME_BYTES}, since folders "
            "and files are named after it"
        )


def flag(option: str) -> str:
    """The option of the command line with the name of a keyword argument."""
    return f"--{option.replace('_', '-')}"
