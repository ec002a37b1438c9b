"""Final training: a configuration is trained on all training data, and tested once per seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imbtune.config.plugin_module import PluginModule
from imbtune.config.plugins import plugin_parts, register
from imbtune.config.train_config import TrainConfig
from imbtune.data.load import source_of
from imbtune.errors import DivergenceError
from imbtune.final_training import unfinished
from imbtune.final_training.final_run import (
    FinalRun,
    FinishedSeed,
    Values,
    load_final_splits,
)
from imbtune.final_training.final_task import FinalTask, TrainOptions
from imbtune.final_training.hand_over import HandOver, SeedResult, mean_and_std
from imbtune.final_training.seed_training import OpenTrainer, in_this_process
from imbtune.progress.reporter import Reporter
from imbtune.progress.run_events import FINISHED, SEEDS, RunEnded, StageStarted
from imbtune.storage import Store
from imbtune.study.checkpoints import delete_checkpoints


@dataclass(frozen=True)
class TrainResult:
    """A final training: the same configuration with several seeds, each tested once.

    Attributes:
        path: the folder of the first seed's model; it has those of the other seeds.
        config: with the first seed.
        runs: one per seed.
        baselines: the same of the best preset and of `erm`, by the preset's name, if they were
            trained too.
        ensemble: metrics of the mean of the seeds' probabilities; empty if it was not tested.
        ensemble_without: the same without the ensemble's own temperature; empty if it has none.
        titles: each metric by its name, with its knobs in words.
        undefined: which metrics have no value on the test images, and why; a line each.
    """

    path: Path
    config: TrainConfig
    runs: list[FinalRun]
    baselines: Mapping[str, TrainResult] = field(default_factory=dict)
    ensemble: Values = field(default_factory=dict)
    ensemble_without: Values = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    undefined: Sequence[str] = ()

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        """Mean and sample standard deviation over the seeds of each defined test metric.

        The deviation is NaN for a single seed.
        """
        names = [name for name, value in self.runs[0].metrics.items() if value is not None]
        return {name: mean_and_std(self.runs, name) for name in names}

    def metrics_without(self, part: str) -> dict[str, tuple[float, float]]:
        """The same of the runs without something: `averaging` or `temperature`.

        Args:
            part: as in :attr:`FinalRun.without`.
        """
        runs = [replace(run, metrics=run.without[part]) for run in self.runs]
        return {name: mean_and_std(runs, name) for name in self.metrics}

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
    options: TrainOptions | None = None,
) -> TrainResult:
    """Train a configuration with several seeds; write the models.

    The test images are used once per run, when the model is finished. `out` receives the model of
    the first seed, and in `seedN` those of the others (:mod:`.hand_over`). The user's plugins are
    copied there too, so that the models can be loaded without the original files.

    Where `out` has an unfinished training of the same settings, it goes on: models that are
    complete stay, other seeds go on from their checkpoints. Call :func:`.unfinished.end` at the
    end; with `later` at 0 this is done here.

    Args:
        config: its seed is the first one.
        seeds: number of runs, with consecutive seeds.
        out: folder for the files; it must be empty or not exist, or have an unfinished training.
        data: folder or file of the data set; None for $IMBTUNE_DATA, else a download.
        provenance: where the configuration comes from, for `metrics.json`.
        reporter: gets what is trained.
        imports: modules with the user's plugins.
        skip_corrupt: leave out images that cannot be read.
        open_trainer: gives what trains the seeds, for this configuration and these images.
        later: runs that are trained after these, for the time left.
        options: what is done beyond the configuration; None for nothing.

    Raises:
        ImbtuneError: before anything is trained: the data or the model cannot be used, or `out` has
            other files.
        DivergenceError: a seed diverged; the models of the seeds before it stay.
    """
    options = options or TrainOptions()
    options.check(seeds)
    unfinished.check_folder(out)
    register(imports)
    data_source = source_of(config.data.name, data, skip_corrupt)
    plugins = plugin_parts(config.flat().values())
    splits = load_final_splits(config, data_source, plugins, options.calibrate)
    task = FinalTask(out, config, seeds, splits, imports, provenance, options, data_source.root)
    task.check_average()
    task.check_objectives()
    with unfinished.begun(task) as goes_on:
        result = _train(task, open_trainer, reporter, later, goes_on)
    if not later:
        unfinished.end(out)
    return result


def _train(
    task: FinalTask, open_trainer: OpenTrainer, reporter: Reporter, later: int, goes_on: bool
) -> TrainResult:
    config, splits, hand_over = task.config, task.splits, HandOver(task)
    done = {c.seed: hand_over.read_seed(c.seed) for c in task.configs if hand_over.is_done(c.seed)}
    left = [c for c in task.configs if c.seed not in done]
    kept = f", {len(splits.calibration)} kept for calibration" if splits.calibration else ""
    size = (
        f"{config.data.name}: {len(splits.train)} training and {len(splits.held_out)} test "
        f"images{kept}, {len(splits.classes)} classes; {config.epochs} "
        f"epoch{'s' * (config.epochs != 1)}"
    )
    if goes_on:
        seeds = f"{len(done)} of {task.seeds} seed{'s' * (task.seeds > 1)} done"
        reporter(f"{task.out} has an unfinished training, which goes on: {seeds}")
    if left:
        with open_trainer(task) as trainer:
            reporter(f"{size} on {trainer.place}")
            for note in splits.notes:
                reporter(note)
            earlier = [_ended(task, result.run, reporter.now()) for result in done.values()]
            reporter.tell(_stage(task, trainer.at_a_time, later, earlier, reporter.now()))

            def ended(finished: FinishedSeed) -> None:
                run = finished.run
                done[run.seed] = hand_over.write_seed(finished)
                delete_checkpoints(Store(str(task.out)), run.seed)
                reporter.tell(_ended(task, run, reporter.now()))
                if finished.calibration and finished.calibration.note:
                    reporter(f"seed {run.seed}: {finished.calibration.note}")
                _write_summary(hand_over, done)

            try:
                trainer(left, reporter, ended)
            except DivergenceError as error:
                unfinished.end(task.out)  # it would diverge again
                raise DivergenceError(_diverged(error, config, task.out, sorted(done))) from error
    results, ensemble = [done[c.seed] for c in task.configs], None
    if goes_on:  # it may have been interrupted between a seed's model and the summary with it
        hand_over.write_summary(results, None)
    if task.options.ensemble:
        ensemble = hand_over.test_ensemble()
        hand_over.write_summary(results, ensemble)
    runs = [result.run for result in results]
    return TrainResult(
        task.out,
        config,
        runs,
        ensemble=ensemble.metrics if ensemble else {},
        ensemble_without=(ensemble.without or {}) if ensemble else {},
        titles=task.titles,
        undefined=task.undefined(),
    )


def _write_summary(hand_over: HandOver, done: Mapping[int, SeedResult]) -> None:
    """Write what several seeds say together, if the first one is among them."""
    seeds = sorted(done)
    if len(seeds) > 1 and seeds[0] == hand_over.task.config.seed:
        hand_over.write_summary([done[seed] for seed in seeds], None)


def _stage(
    task: FinalTask, at_a_time: int, later: int, earlier: list[RunEnded], now: float
) -> StageStarted:
    return StageStarted(
        now,
        SEEDS,
        task.seeds,
        task.config.data.name,
        str(task.out),
        workers=at_a_time,
        budgets=(task.config.epochs,),
        finals=later,
        earlier=tuple(earlier),
    )


def _ended(task: FinalTask, run: FinalRun, now: float) -> RunEnded:
    return RunEnded(
        now,
        f"seed {run.seed}",
        run.seed,
        FINISHED,
        run.metrics["balanced_accuracy"],
        task.config.epochs,
        "test balanced accuracy",
        seconds=run.seconds,
    )


def _diverged(error: DivergenceError, config: TrainConfig, out: Path, seeds: list[int]) -> str:
    """The message for a seed that diverged: what, the way out, and what was trained before."""
    rate = float(config.flat()["optimizer.lr"])
    message = f"{error}: give a lower --set optimizer.lr (it is {rate:g})"
    models = ", ".join(map(str, seeds))
    return f"{message}; {out} has the models of seed {models}" if models else message
