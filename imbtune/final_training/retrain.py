"""Final training: a configuration is trained on all training data, and tested once per seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import plugin_parts, register
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, data_root
from imbtune.data.splits import Splits
from imbtune.errors import DivergenceError, StudyError
from imbtune.final_training.final_run import (
    FinalRun,
    FinishedSeed,
    Progress,
    load_final_splits,
    reported_loss,
    train_seed,
)
from imbtune.final_training.hand_over import HandOver, mean_and_std
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import (
    FINISHED,
    SEEDS,
    EpochsTrained,
    RunEnded,
    RunStarted,
    StageStarted,
    Step,
)
from imbtune.study.hints import free_folder
from imbtune.study.records import summary
from imbtune.training.cost.image_passes import run_passes
from imbtune.training.device.device_data import DeviceData
from imbtune.training.state import pick_device


class SeedTrainer(Protocol):
    """Trains one seed of a configuration."""

    @property
    def place(self) -> str:
        """Where it trains, for a line of progress."""

    def __call__(self, config: TrainConfig, reporter: Reporter) -> FinishedSeed:
        """Train and test the configuration with its seed, and report its epochs."""


OpenTrainer = Callable[
    [TrainConfig, Splits, tuple[PluginModule, ...]], AbstractContextManager[SeedTrainer]
]


@dataclass(frozen=True, eq=False)
class _InProcess:
    """Trains seeds in this process."""

    data: DeviceData

    @property
    def place(self) -> str:
        return str(self.data.device)

    def __call__(self, config: TrainConfig, reporter: Reporter) -> FinishedSeed:
        def after_epoch(progress: Progress) -> None:
            run, now = seed_run(config), reporter.now()
            loss = reported_loss(progress)
            reporter.tell(EpochsTrained(now, run, 1, progress.trained, loss))
            reporter.tick()

        return train_seed(config, self.data, after_epoch).finished()


@contextmanager
def in_this_process(
    config: TrainConfig, splits: Splits, imports: tuple[PluginModule, ...]
) -> Iterator[SeedTrainer]:
    """Train on this process's device: the first GPU, else the CPU."""
    yield _InProcess(DeviceData(splits, pick_device()))


@dataclass(frozen=True)
class TrainResult:
    """A final training: the same configuration with several seeds, each tested once.

    Attributes:
        path: the folder with the models.
        config: with the first seed.
        runs: one per seed.
        baselines: the same of the best preset and of `erm`, by the preset's name, if they were
            trained too.
    """

    path: Path
    config: TrainConfig
    runs: list[FinalRun]
    baselines: Mapping[str, TrainResult] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        """Mean and sample standard deviation over the seeds of each defined test metric.

        The deviation is NaN for a single seed.
        """
        names = [name for name, value in self.runs[0].metrics.items() if value is not None]
        return {name: mean_and_std(self.runs, name) for name in names}

    def __repr__(self) -> str:
        mean, std = self.metrics["balanced_accuracy"]
        spread = f" ± {std:.4f}" if len(self.runs) > 1 else ""
        seeds = f"{len(self.runs)} seed{'s' * (len(self.runs) > 1)}"
        return (
            f"TrainResult({str(self.path)!r}): test balanced accuracy {mean:.4f}{spread}, {seeds}"
        )


def train_final(
    config: TrainConfig,
    seeds: int,
    out: Path,
    data: Path | None,
    provenance: dict[str, Any],
    reporter: Reporter,
    imports: tuple[PluginModule, ...] = (),
    skip_corrupt: bool = False,
    open_trainer: OpenTrainer = in_this_process,
    later: int = 0,
) -> list[FinalRun]:
    """Train a configuration with several seeds; write models, configuration and results.

    The test images are used once per run, when the model is finished. `out` receives the model of
    the first seed, and in `seedN` those of the others (:mod:`.hand_over`). The user's plugins are
    copied there too, so that the models can be loaded without the original files.

    Args:
        config: its seed is the first one.
        seeds: number of runs, with consecutive seeds.
        out: folder for the files; it must be empty or not exist.
        data: folder or file of the data set; None for $IMBTUNE_DATA, else a download.
        provenance: where the configuration comes from, for `metrics.json`.
        reporter: gets what is trained.
        imports: modules with the user's plugins.
        skip_corrupt: leave out images that cannot be read.
        open_trainer: gives what trains each seed, for this configuration and these images.
        later: runs that are trained after these, for the time left.

    Raises:
        ImbtuneError: before anything is trained: the data or the model cannot be used, or `out` is
            not empty.
        DivergenceError: a seed diverged; the files of the seeds before it stay.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError(
            f"--out {out} exists already and is not empty: give another folder, such as --out "
            f"{free_folder(out)}, or delete it"
        )
    register(imports)
    data_source = DataSource(data_root(data), skip_corrupt)
    splits = load_final_splits(config, data_source, plugin_parts(config.flat().values()))
    runs: list[FinalRun] = []
    with open_trainer(config, splits, imports) as trainer:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"cannot write to --out {out} ({error.strerror}): give another folder"
            ) from error
        hand_over = HandOver(out, config, seeds, splits, imports, provenance)
        first: FinishedSeed | None = None
        reporter(
            f"{config.data.name}: {len(splits.train)} training and {len(splits.held_out)} test "
            f"images, {len(splits.classes)} classes; {config.epochs} epochs on {trainer.place}"
        )
        for note in splits.notes:
            reporter(note)
        reporter.tell(_stage(config, seeds, out, later, reporter.now()))
        for seed in range(config.seed, config.seed + seeds):
            own = config.replace(seed=seed)
            try:
                reporter.tell(seed_started(own, splits, reporter.now()))
                finished = trainer(own, reporter)
            except DivergenceError as error:
                raise DivergenceError(_diverged(seed, error, config, out, runs)) from error
            hand_over.write_seed(finished)
            run, score = finished.run, finished.run.metrics["balanced_accuracy"]
            reporter.tell(_ended(own, score, run.seconds, reporter.now()))
            runs.append(run)
            first = first or finished
            if len(runs) > 1:
                hand_over.write_summary(runs, first)
    return runs


def seed_run(config: TrainConfig) -> str:
    """The name of a run with a configuration's seed."""
    return f"seed {config.seed}"


def seed_started(config: TrainConfig, splits: Splits, now: float) -> RunStarted:
    """A seed's run begins, or begins again."""
    passes = float(run_passes(config, splits.counts()))
    steps = (Step(config.epochs, config.epochs, passes),)
    name = summary(config.flat())
    return RunStarted(now, seed_run(config), name, steps=steps, full_passes=passes)


def _stage(config: TrainConfig, seeds: int, out: Path, later: int, now: float) -> StageStarted:
    return StageStarted(
        now, SEEDS, seeds, config.data.name, str(out), budgets=(config.epochs,), finals=later
    )


def _ended(config: TrainConfig, score: float | None, seconds: float, now: float) -> RunEnded:
    return RunEnded(
        now,
        seed_run(config),
        config.seed,
        FINISHED,
        score,
        config.epochs,
        "test balanced accuracy",
        seconds=seconds,
    )


def _diverged(
    seed: int, error: DivergenceError, config: TrainConfig, out: Path, runs: list[FinalRun]
) -> str:
    """The message for a seed that diverged: what, the way out, and what was trained before."""
    rate = float(config.flat()["optimizer.lr"])
    message = f"seed {seed}, {error}: give a lower --set optimizer.lr (it is {rate:g})"
    seeds = ", ".join(str(run.seed) for run in runs)
    return f"{message}; {out} has the models of seed {seeds}" if runs else message
