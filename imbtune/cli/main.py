"""`imbtune`: the commands and their options."""

from __future__ import annotations

import atexit
import gc
import inspect
from enum import StrEnum
from typing import Annotated

import typer

from imbtune import __version__, runtime
from imbtune.cli.error_boundary import Commands, ErrorBoundary
from imbtune.cli.model_use.model_options import (
    ComparedDataOption,
    KeptDataOption,
    LabelledDataOption,
    LayoutOption,
    ModelArgument,
    ModelSeedOption,
    OwnMetricOption,
    OwnThresholdOption,
    PriorOption,
    ResizeOption,
    UseEnsembleOption,
)
from imbtune.cli.options import (
    AddressOption,
    BaselinesOption,
    CalibrateOption,
    CalibrationOption,
    ConcurrentOption,
    ConfigArgument,
    CpusOption,
    DataOption,
    EmaOption,
    EnsembleOption,
    EpochsOption,
    FinalSeedsOption,
    FinalsOption,
    FixedGpusOption,
    GpusOption,
    JobsAddressOption,
    JobStudyArgument,
    MaxFailuresOption,
    MlflowOption,
    MoreFinalsOption,
    NeverPruneOption,
    ObjectiveOption,
    PackOption,
    PresetsOption,
    ProgressOption,
    RankedByOption,
    ReferenceOption,
    RungsOption,
    SamplerOption,
    SeedOption,
    SeedsAtATimeOption,
    SeedsOption,
    SetOption,
    SkipOption,
    SpaceArgument,
    StorageOption,
    TensorBoardOption,
    TimeOption,
    TrialsOption,
    TrialTimeoutOption,
    TrustOption,
    WandbEntityOption,
    WandbOption,
    WandbProjectOption,
    WandbTagsOption,
    WinnersOption,
    WorkersOption,
    with_options_of,
)
from imbtune.cli.output import never_fail
from imbtune.limits import CALIBRATION_TRIALS, EPOCHS, PRICE, PROCESSORS, SEED, SEEDS, TRIALS
from imbtune.progress.second_interrupt import end_at_second_interrupt
from imbtune.runtime import fewer_collections, limit_thread_spinning

app = Commands(
    name="imbtune",
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for deep imbalanced classification.",
)


class Topic(StrEnum):
    SPACES = "spaces"
    DATASETS = "datasets"
    METHODS = "methods"
    KNOBS = "knobs"
    PRESETS = "presets"
    METRICS = "metrics"
    OBJECTIVES = "objectives"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"imbtune {__version__}")
        raise typer.Exit


@app.command()
def search(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: TrialsOption = 100,
    name: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the name of the space.")
    ] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    objective: ObjectiveOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: PackOption = False,
    address: AddressOption = None,
    storage: StorageOption = "runs",
    sampler: SamplerOption = "tpe",
    rungs: RungsOption = "cooldown",
    calibration: CalibrationOption = None,
    never_prune: NeverPruneOption = 0.05,
    finals: FinalsOption = None,
    final_seeds: FinalSeedsOption = 3,
    time_budget: TimeOption = None,
    wandb: WandbOption = "off",
    wandb_project: WandbProjectOption = None,
    wandb_entity: WandbEntityOption = None,
    wandb_tags: WandbTagsOption = None,
    tensorboard: TensorBoardOption = False,
    mlflow: MlflowOption = False,
    max_failures: MaxFailuresOption = 3,
    trial_timeout: TrialTimeoutOption = None,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
    trust: TrustOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Search a space: presets first, then suggestions of the sampler. ASHA stops weak trials."""
    from imbtune.cli.search import search_command

    search_command(**ctx.params)


@app.command()
def plan(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: TrialsOption = 100,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, max=PROCESSORS, help="Total number of GPUs. Default: this machine's."),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=PROCESSORS,
            help="Total number of CPUs. Default: this machine's; with --gpus, as many as needed.",
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="Use the recorded speed of this study's trials, e.g. runs/NAME, instead of "
            "measuring it."
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=PRICE,
            help="Price per GPU hour (without GPUs: per CPU hour), in any currency.",
        ),
    ] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    objective: ObjectiveOption = None,
    gpus_per_trial: FixedGpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    storage: StorageOption = "runs",
    sampler: SamplerOption = "tpe",
    rungs: RungsOption = "cooldown",
    calibration: CalibrationOption = None,
    never_prune: NeverPruneOption = 0.05,
    finals: FinalsOption = None,
    final_seeds: FinalSeedsOption = 3,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
    trust: TrustOption = False,
) -> None:
    """Forecast a search: time, GPU hours, price. Also how many trials reach each rung."""
    from imbtune.cli.plan import plan_command

    plan_command(**ctx.params)


@app.command()
def resume(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help="Folder or URI of the study, e.g. runs/NAME.")],
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: Annotated[
        bool | None,
        typer.Option(
            "--pack/--no-pack",
            hidden=True,  # experimental, as in search
            help="As in search. Default: as the study was started.",
        ),
    ] = None,
    address: AddressOption = None,
    time_budget: TimeOption = None,
    max_failures: Annotated[
        int | None,
        typer.Option(min=0, help="As in search. Default: as the study was started."),
    ] = None,
    trial_timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As in search. Default: as the study was started."),
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="Train the failed trials again, as new trials of the study."
        ),
    ] = False,
    data: DataOption = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, max=TRIALS, help="New total number of trials. Default: as the study was started."
        ),
    ] = None,
    finals: MoreFinalsOption = None,
    trust: TrustOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Resume an interrupted or killed study. A search, a calibration or a comparison."""
    from imbtune.cli.search import resume_command

    resume_command(**ctx.params)


RESUMABLE = list(inspect.signature(resume).parameters)  # options of a search that is resumed
ONLY_RESUMED = [n for n in RESUMABLE if n not in (*inspect.signature(search).parameters, "study")]


@app.command()
@with_options_of(resume, leave_out=("study",))
@with_options_of(search)
def submit(
    ctx: typer.Context,
    space: Annotated[
        str | None,
        typer.Argument(help="Name of a space, or path of a space file; it is sent, too."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Resume this search instead."),
    ] = None,
    address: JobsAddressOption = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where studies are written: s3://…, gs://…, or an absolute folder on the "
            "cluster's head node. Must be given."
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Give the search this environment variable of mine; who can use the cluster can "
            "read it. May be repeated.",
        ),
    ] = None,
    **options: object,
) -> None:
    """Send a search to a Ray cluster. It goes on when this machine is off."""
    from imbtune.cli.cluster_jobs import submit_command

    submit_command(ctx, RESUMABLE, ONLY_RESUMED)


@app.command()
def status(study: JobStudyArgument, address: JobsAddressOption = None) -> None:
    """Show how far a submitted search is."""
    from imbtune.cli.cluster_jobs import status_command

    status_command(study, address)


@app.command()
def logs(
    study: JobStudyArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the search has ended.")
    ] = False,
    address: JobsAddressOption = None,
) -> None:
    """Print what a submitted search has printed."""
    from imbtune.cli.cluster_jobs import logs_command

    logs_command(study, address, follow)


@app.command()
def stop(study: JobStudyArgument, address: JobsAddressOption = None) -> None:
    """End a submitted search as Ctrl-C does. It can be resumed."""
    from imbtune.cli.cluster_jobs import stop_command

    stop_command(study, address)


@app.command("list")
def list_jobs(address: JobsAddressOption = None) -> None:
    """List the searches that were submitted to a cluster."""
    from imbtune.cli.cluster_jobs import list_command

    list_command(address)


@app.command()
def fetch(
    study: JobStudyArgument,
    to: Annotated[
        str, typer.Option(metavar="FOLDER", help="Folder of studies on this machine.")
    ] = "runs",
    address: JobsAddressOption = None,
) -> None:
    """Copy a submitted search's study to this machine. What there is so far, if it still runs."""
    from imbtune.cli.cluster_jobs import fetch_command

    fetch_command(study, address, to)


@app.command("send-study", hidden=True)
def send_study(path: Annotated[str, typer.Argument(help="Folder of the study.")]) -> None:
    """Print a study's files as text. For fetch, on the cluster's head node."""
    from imbtune.cli.cluster_jobs import send_study_command

    send_study_command(path)


@app.command("has-study", hidden=True)
def has_study(path: Annotated[str, typer.Argument(help="Folder or URI of the study.")]) -> None:
    """Exit with 0 if there is a study, with 1 if there is none. For cluster/slurm.sh."""
    from imbtune.cli.cluster_jobs import has_study_command

    has_study_command(path)


@app.command()
def calibrate(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: Annotated[
        int,
        typer.Option(
            min=8,
            max=CALIBRATION_TRIALS,
            help="Number of random configurations, each trained with two seeds.",
        ),
    ] = 16,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the study. Default: name of the space with -calibration."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=SEED, help="Seed of the configurations and of every run.")
    ] = 0,
    epochs: EpochsOption = None,
    objective: ObjectiveOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: PackOption = False,
    address: AddressOption = None,
    storage: StorageOption = "runs",
    wandb: WandbOption = "off",
    wandb_project: WandbProjectOption = None,
    wandb_entity: WandbEntityOption = None,
    wandb_tags: WandbTagsOption = None,
    tensorboard: TensorBoardOption = False,
    mlflow: MlflowOption = False,
    max_failures: MaxFailuresOption = 3,
    trial_timeout: TrialTimeoutOption = None,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
    trust: TrustOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Measure how well rungs predict finished models. For search --rungs auto."""
    from imbtune.cli.calibrate import calibrate_command

    calibrate_command(**ctx.params)


@app.command()
def train(
    config: ConfigArgument = None,
    trial: Annotated[
        tuple[str, int] | None,
        typer.Option(
            metavar="STUDY N",
            help="Train trial N of a study again exactly as its search did, scored on the "
            "validation images. On the same machine, all scores are the same to the last bit.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Train a baseline from the literature, e.g. mamix_drw, instead of a file; needs "
            "--space."
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="With --preset: the space whose data and fixed settings are used."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=SEEDS, help="Number of runs, with different seeds.")
    ] = 1,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, max=EPOCHS, help="Number of epochs. Default: as in the configuration."),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder for models and results. Default: next to the configuration.",
        ),
    ] = None,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            callback=lambda given: given or None,
            help="Metric that is tested with these knobs, as in search, and by evaluate as well. "
            "May be repeated. Default: those of the study or space.",
        ),
    ] = None,
    baselines: BaselinesOption = False,
    ema: EmaOption = None,
    calibrate: CalibrateOption = None,
    ensemble: EnsembleOption = False,
    max_concurrent: SeedsAtATimeOption = None,
    trust: TrustOption = False,
    workers: WorkersOption = None,
    address: AddressOption = None,
    progress: ProgressOption = "auto",
) -> None:
    """Train a configuration, and test it once per seed. Trains on all training data.

    A study's winner is trained on the data of its search, unless --data or $IMBTUNE_DATA names
    another folder. After Ctrl-C or a kill, the same command goes on.
    """
    if trial:
        from imbtune.cli.train import repeat_command

        others: dict[str, object] = {
            "a file": config,
            "--preset": preset,
            "--space": space,
            "--set": settings,
            "--objective": objective,
            "--epochs": epochs,
            "--out": out,
            "--seeds": seeds > 1,
            "--baselines": baselines,
            "--ema": ema,
            "--calibrate": calibrate,
            "--ensemble": ensemble,
            "--max-concurrent": max_concurrent,
            "--workers": workers,
            "--address": address,
        }
        refused = [name for name, given in others.items() if given]
        repeat_command(*trial, data, trust, refused)
        return
    from imbtune.cli.train import train_command

    train_command(
        config,
        settings=settings,
        objective=objective,
        preset=preset,
        space=space,
        seeds=seeds,
        epochs=epochs,
        out=out,
        data=data,
        skip_corrupt=skip_corrupt,
        baselines=baselines,
        ema=ema,
        calibrate=calibrate,
        ensemble=ensemble,
        max_concurrent=max_concurrent,
        trust=trust,
        workers=workers,
        address=address,
        progress=progress,
    )


@app.command()
def predict(
    ctx: typer.Context,
    model: ModelArgument,
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder (with those below it), an image, a .txt or .lst file with a path per "
            "line (from the current folder, else the file's; # begins a comment), or Parquet with "
            "encoded images.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="New .parquet or .csv file. Must be given.")
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**6,
            help="How many of the most probable classes have columns of their own, at most all.",
        ),
    ] = 1,
    prior: PriorOption = None,
    threshold: OwnThresholdOption = None,
    resize: ResizeOption = False,
    seed: ModelSeedOption = None,
    ensemble: UseEnsembleOption = False,
    trust: TrustOption = False,
) -> None:
    """Predict image files, any number of them. One that cannot be read is a row with its error."""
    from imbtune.cli.model_use.model_commands import predict_command

    predict_command(**ctx.params)


@app.command()
def evaluate(
    ctx: typer.Context,
    model: ModelArgument,
    data: LabelledDataOption = None,
    split: Annotated[
        str,
        typer.Option(
            help="test: the test set, as the training made it; all: every image, for data that the "
            "training did not see; train: the images that it was trained on."
        ),
    ] = "test",
    dataset: LayoutOption = None,
    prior: PriorOption = None,
    threshold: OwnThresholdOption = None,
    metric: OwnMetricOption = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write a new .json or .parquet file.")
    ] = None,
    skip_corrupt: SkipOption = False,
    resize: ResizeOption = False,
    seed: ModelSeedOption = None,
    ensemble: UseEnsembleOption = False,
    trust: TrustOption = False,
) -> None:
    """Evaluate a model on labelled images. Every metric with a 95 % interval, and every class."""
    from imbtune.cli.model_use.model_commands import evaluate_command

    evaluate_command(**ctx.params)


@app.command()
def threshold(
    ctx: typer.Context,
    model: ModelArgument,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What the threshold is best for, e.g. f_beta, balanced_accuracy, '{name: "
            "expected_cost, costs: {fraud: {normal: 20}}}' or '{name: recall_at_precision, "
            "precision: 0.9}' (see imbtune show objectives)."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the model's threshold instead.")
    ] = False,
    data: KeptDataOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Of --data that have a training and a test set: all or test, as in evaluate. "
            "Images that the model was trained on are refused. Default: all of the only set."
        ),
    ] = None,
    dataset: LayoutOption = None,
    skip_corrupt: SkipOption = False,
    resize: ResizeOption = False,
    seed: ModelSeedOption = None,
    trust: TrustOption = False,
) -> None:
    """Choose the threshold of a two-class model on held-out images.

    It is stored in the model's folder if it is expected to be better than the more probable class,
    and than one class for every image.
    """
    from imbtune.cli.model_use.model_commands import threshold_command

    threshold_command(**ctx.params)


@app.command()
def export(
    ctx: typer.Context,
    model: ModelArgument,
    to: Annotated[str, typer.Option(help="Format: onnx.")] = "onnx",
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="New .onnx file. Default: model.onnx in the model's folder; with --seed N "
            "model-seedN.onnx, with --ensemble ensemble.onnx.",
        ),
    ] = None,
    data: ComparedDataOption = None,
    unchecked: Annotated[
        bool,
        typer.Option(
            "--unchecked",
            help="Without images of the model: compare it on random pixels only.",
        ),
    ] = False,
    seed: ModelSeedOption = None,
    ensemble: UseEnsembleOption = False,
    trust: TrustOption = False,
) -> None:
    """Export a model as one ONNX file. Compared with the model in onnxruntime before it appears."""
    from imbtune.cli.model_use.model_commands import export_command

    export_command(**ctx.params)


@app.command()
def compare(
    ctx: typer.Context,
    space: SpaceArgument,
    presets: PresetsOption = None,
    study: WinnersOption = None,
    seeds: SeedsOption = 5,
    seed: Annotated[int, typer.Option(min=0, max=SEED, help="First seed.")] = 0,
    reference: ReferenceOption = None,
    objective: RankedByOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the study. Default: name of the space with -comparison."),
    ] = None,
    epochs: EpochsOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    address: AddressOption = None,
    storage: StorageOption = "runs",
    max_failures: MaxFailuresOption = 3,
    trial_timeout: TrialTimeoutOption = None,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
    trust: TrustOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Compare presets and winners on the test set. Mean ± deviation over seeds, ranks, tests."""
    from imbtune.cli.compare import compare_command

    compare_command(**ctx.params)


@app.command()
def report(
    studies: Annotated[
        list[str],
        typer.Argument(metavar="STUDY...", help="Folders or URIs of studies, such as runs/NAME."),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The HTML file. Default: report.html in the study's folder; in the current folder "
            "for several studies, or for one in a bucket.",
        ),
    ] = None,
    png: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write every figure of the study as PNG and SVG into this folder: a new or "
            "empty one, or one with figures of an earlier call, which are replaced.",
        ),
    ] = None,
) -> None:
    """Report a study: one HTML file, without a network. Several studies are compared."""
    from imbtune.api import load_study
    from imbtune.errors import ConfigError
    from imbtune.paths import local_path

    out = None if out is None else local_path("--out", out)
    png = None if png is None else local_path("--png", png)
    first, *others = [load_study(path) for path in studies]
    if png is not None:
        from imbtune.report.write import figure_folder

        if others:
            raise ConfigError(f"--png {png}: {len(studies)} studies are given: give one")
        if png == out:
            raise ConfigError(f"--png {png}: it is --out, too: give another folder")
        figure_folder(png).create()  # before the report is written
    print(f"Report: {first.report(out, others=others)}")
    if png is not None:
        print(f"Figures: {len(first.figures(png))} files in {png}")


@app.command()
def serve(
    path: Annotated[
        str,
        typer.Argument(metavar="FOLDER", help="Folder or URI of studies, or of one study."),
    ] = "runs",
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of this machine to listen at. Others than 127.0.0.1 need a token, which "
            "is printed; $IMBTUNE_SERVE_TOKEN sets it.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 for any port that is free.")
    ] = 8420,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = False,
) -> None:
    """Serve live reports of all studies under a folder."""
    from imbtune.serving.run_server import open_server

    server = open_server(path, host, port, print)
    print(f"\n  {server.url}\n\nCtrl-C ends it.", flush=True)
    if open_browser:
        import webbrowser

        webbrowser.open(server.url)
    server.run()


@app.command()
def show(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    space: Annotated[
        str | None,
        typer.Option(help="A space; the plugins that it imports are listed too."),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """List spaces, methods, knobs, presets and more. With ranges, defaults and papers."""
    from imbtune.cli.show import show_command

    show_command(topic.value, space, trust)


@app.command()
def sync(
    study: Annotated[str, typer.Argument(help="Folder or URI of the study, e.g. runs/NAME.")],
) -> None:
    """Upload the runs that --wandb offline has kept. With W&B's own `wandb sync`."""
    from imbtune.cli.search import sync_command

    sync_command(study)


@app.command()
def query(
    *,  # the studies may be missing, for a message that names the order
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY", help="Studies, or folders and buckets of studies, e.g. runs."
        ),
    ] = None,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="A SELECT over the views trials, epochs, finals, predictions, scores, classes "
            "(DuckDB's SQL).",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="table, csv, json, markdown or parquet. Default: as the file's name says, or else "
            "a table.",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the rows to this new file.")
    ] = None,
) -> None:
    """Run SQL over one or many studies. Also while they are searched; it only reads."""
    from imbtune.cli.query import query_command

    query_command(studies or [], sql, format, out)


def main() -> None:
    """The entry point of the installed command."""
    never_fail()
    runtime.is_command = True
    end_at_second_interrupt()
    atexit.register(gc.freeze)  # else a last garbage collection takes 0.8 s when torch is loaded
    limit_thread_spinning()
    with fewer_collections():
        app()
