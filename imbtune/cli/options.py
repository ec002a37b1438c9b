"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, get_type_hints

import typer

from imbtune.limits import EPOCHS, FINALS, PROCESSORS, SEED, SEEDS, TRIALS

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Folder of the data set (its makers' layout, a folder per class, images with a CSV, "
        "Hugging Face Parquet or a saved data set), or a .npz file. Default: $IMBTUNE_DATA; if "
        "that is not set, the data set is downloaded.",
        show_default=False,
    ),
]
ProgressOption = Annotated[
    str,
    typer.Option(
        help="How progress is shown: live (drawn in place on a terminal), plain (lines with a "
        "time), json (one object a line), or auto: live on a terminal, else plain."
    ),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KNOB=VALUE",
        help="Fix a setting, e.g. mix=mamix or data.ratio=50. May be repeated.",
    ),
]
WandbOption = Annotated[
    str, typer.Option(help="Show runs in Weights & Biases: off, offline or online.")
]
WandbProjectOption = Annotated[
    str | None, typer.Option(help="Project in W&B. Default: the name of the space.")
]
WandbEntityOption = Annotated[
    str | None, typer.Option(help="User or team in W&B. Default: W&B's own default.")
]
WandbTagsOption = Annotated[
    str | None,
    typer.Option(metavar="TAG,TAG", help="Tags of every run in W&B, with commas between."),
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Show runs in TensorBoard: files beside the tables.")
]
MlflowOption = Annotated[
    bool, typer.Option("--mlflow", help="Show runs in MLflow, at $MLFLOW_TRACKING_URI.")
]
SpaceArgument = Annotated[
    str, typer.Argument(help="Name of a space (see imbtune show spaces), or path of a space file.")
]
EpochsOption = Annotated[
    int | None,
    typer.Option(min=1, max=EPOCHS, help="Full budget of a trial in epochs. Default: the space's."),
]
ObjectiveOption = Annotated[
    list[str] | None,
    typer.Option(
        callback=lambda given: given or None,  # the space's, not none at all
        help="Metric to maximise, on the validation images (see imbtune show objectives). With "
        "knobs: '{name: recall_at_precision, precision: 0.9}'. Give it up to three times to search "
        "for a Pareto front; trials are stopped by the first. "
        "Default: the space's, which is balanced_accuracy if it names none.",
    ),
]
RankedByOption = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        callback=lambda given: given or None,
        help="Metric of ranks and tests, as in search. Given more than once, the others have "
        "columns, too. Default: the space's.",
    ),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="GPUs per trial: 1/n (0.5, 0.25, …), a whole number, or auto to measure it first. "
        "Default: 0.25 if there are GPUs.",
    ),
]
FixedGpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="GPUs per trial: 1/n (0.5, 0.25, …) or a whole number. Default: 0.25 if there are "
        "GPUs.",
    ),
]
CpusOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=PROCESSORS,
        help="CPUs per trial. Default: 1, or an even share among the trials on a machine's GPUs.",
    ),
]
ConcurrentOption = Annotated[
    int | None,
    typer.Option(min=1, max=PROCESSORS, help="Trials at a time. Default: as many as fit."),
]
PackOption = Annotated[
    bool,
    typer.Option(
        "--pack/--no-pack",
        hidden=True,  # experimental: its speed on a GPU has not been measured
        help="Train all trials of a GPU in one process, each in its own CUDA stream.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster: auto on one of its machines, or HEAD:6379; or local, for this machine "
        "alone, which is the default. With resume, the default is as the study was started."
    ),
]
JobsAddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Dashboard of the Ray cluster, http://HOST:8265 or https://…. Default: "
        "$RAY_API_SERVER_ADDRESS.",
        show_default=False,
    ),
]
JobStudyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a study that was submitted.")
]
StorageOption = Annotated[
    str, typer.Option(help="Where studies are written: a folder, s3://… or gs://….")
]
TimeOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="End the trials after this time, e.g. 90s, 30m or 2h. Finals are trained after that.",
    ),
]
MaxFailuresOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=FINALS,
        help="How many workers in a row a trial may lose, with their process or machine, without "
        "reaching another rung. It goes on from its last rung on another worker.",
    ),
]
TrialTimeoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="End a worker that reports nothing for this time, e.g. 90s or 10m; its trial goes on "
        "once. Default: 30m, or ten times the longest silence of a trial, if that is more.",
    ),
]
TrialsOption = Annotated[
    int, typer.Option(min=1, max=TRIALS, help="Number of trials, including presets.")
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=SEED, help="Seed of the sampler and of every trial.")
]
SamplerOption = Annotated[
    str, typer.Option(help="Optuna's sampler: tpe, random, gp, cmaes, qmc or nsga2.")
]
RungsOption = Annotated[
    str,
    typer.Option(
        help="How trials are compared below the full budget: cooldown, compressed, prefix, none "
        "(no early stopping), or auto (as imbtune calibrate recommends)."
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        help="With --rungs auto: name, folder or URI of the calibration's study. Default: name of "
        "the space with -calibration."
    ),
]
NeverPruneOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the trials that would be stopped early, but run to the end, to measure how "
        "often early stopping loses a good trial.",
    ),
]
FinalsOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=FINALS,
        help="How many of the best trials, besides the best preset, are trained again with fresh "
        "seeds. Default: 5, or a tenth of the trials if that is less.",
    ),
]
FinalSeedsOption = Annotated[
    int, typer.Option(min=1, max=FINALS, help="Number of fresh seeds per finalist.")
]
PresetsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Names of presets, separated by commas; all for all presets that there are; none. "
        "Default: those that a search of the space starts with.",
    ),
]
WinnersOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Compare the winner of this study too, e.g. runs/NAME. May be repeated.",
    ),
]
SeedsOption = Annotated[
    int,
    typer.Option(
        min=1, max=SEEDS, help="Number of runs of each configuration, with different seeds."
    ),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The row that the others are tested against: a preset, or the name of a study with "
        "-winner. Default: the best row.",
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run Python modules in the given folder that you have not run before. Read them "
        "first: they can do whatever you can (see docs/security.md).",
    ),
]
ConfigArgument = Annotated[
    str | None,
    typer.Argument(
        help="Folder or URI of a study, whose winner (best.yaml) is trained, or path of a "
        "configuration file."
    ),
]
BaselinesOption = Annotated[
    bool,
    typer.Option(
        "--baselines",
        help="Train the study's best preset and erm (plain cross-entropy) too, with the same "
        "seeds, data and epochs, and print all in one table.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=PROCESSORS,
        help="Train each seed on so many workers at once, each with a GPU, or without GPUs an even "
        "share of the CPUs. They share every batch. Each step is that of one process but for "
        "rounding, which grows: the finished model differs as from another run. For large "
        "networks; small ones get slower. Default: this process alone, without Ray.",
    ),
]
EmaOption = Annotated[
    float | None,
    typer.Option(
        metavar="DECAY",
        help="Average the weights over the training (exponential moving average, such as 0.999 for "
        "about 1000 steps); the average is the model. Default: the weights of the last step.",
    ),
]
CalibrateOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Keep this share of each class's training images, such as 0.1, out of the training, "
        "and fit a temperature for the probabilities on them. Default: train on all.",
    ),
]
EnsembleOption = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        help="Test the mean of the seeds' probabilities, too. Needs --seeds of 2 or more.",
    ),
]
SeedsAtATimeOption = Annotated[
    int | None,
    typer.Option(
        "--max-concurrent",
        min=1,
        max=PROCESSORS,
        help="Seeds that are trained at a time, each with a GPU, or without GPUs an even share of "
        "the CPUs. Default: as many as there are GPUs; without GPUs, one after another.",
    ),
]
MoreFinalsOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=FINALS,
        help="New number of the best trials that are trained again with fresh seeds, besides "
        "the best preset. Default: as the study was started.",
    ),
]


def with_options_of(
    search: Callable[..., None], leave_out: Collection[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Give a command the options of `search` in addition to its own, which come first."""

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        def parameters(function: Callable[..., None]) -> dict[str, inspect.Parameter]:
            hints = get_type_hints(function, include_extras=True)
            found = inspect.signature(function).parameters.values()
            return {
                p.name: p.replace(annotation=hints[p.name])
                for p in found
                if p.kind is not p.VAR_KEYWORD
            }

        own = parameters(command)
        every = {
            **own,
            **{k: v for k, v in parameters(search).items() if k not in (*own, *leave_out)},
        }
        command.__signature__ = inspect.Signature(list(every.values()))  # type: ignore[attr-defined]
        command.__annotations__ = {name: p.annotation for name, p in every.items()}
        return command

    return extend
