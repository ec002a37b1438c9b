"""The Python API, which the command line uses too. `import imbtune` gives its names.

Errors that a user can fix are raised as :class:`imbtune.errors.ImbtuneError`, before anything
starts. Their messages name the command line's options; a keyword argument has the option's name
with underscores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imbtune.errors import ConfigError, shown
from imbtune.limits import CALIBRATION_TRIALS, check_whole
from imbtune.paths import path_or_uri
from imbtune.progress.choose_view import AUTO, Progress, check_progress, reporting
from imbtune.progress.reporter import naming_restart
from imbtune.registry import Registry, Value
from imbtune.search_options import (
    Objective,
    check_options,
    checked_settings,
    given_objectives,
    given_path,
)
from imbtune.search_options import search_request as search_request

if TYPE_CHECKING:  # torch and Ray are imported when a function needs them
    from imbtune.comparison.result import ComparisonResult
    from imbtune.config.train_config import TrainConfig
    from imbtune.final_training.retrain import TrainResult
    from imbtune.final_training.seed_training import OpenTrainer
    from imbtune.final_training.train_input import TrainInput
    from imbtune.progress.reporter import Reporter
    from imbtune.spaces.search_space import SearchSpace
    from imbtune.study.view import Study, Trial
    from imbtune.tuning.calibration.run_calibration import CalibrationOutcome
    from imbtune.tuning.forecast.forecast import Forecast

Settings = Mapping[str, Value]


def search(
    space: str | Path | SearchSpace,
    trials: int = 100,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    seed: int = 0,
    gpus_per_trial: float | str | None = None,
    cpus_per_trial: int | None = None,
    max_concurrent: int | None = None,
    pack: bool = False,
    address: str | None = None,
    storage: str | Path = "runs",
    sampler: str = "tpe",
    rungs: str = "cooldown",
    calibration: str | Path | None = None,
    never_prune: float = 0.05,
    finals: int | None = None,
    final_seeds: int = 3,
    time_budget: float | None = None,
    wandb: str = "off",
    wandb_project: str | None = None,
    wandb_entity: str | None = None,
    wandb_tags: str | Sequence[str] | None = None,
    tensorboard: bool = False,
    mlflow: bool = False,
    max_failures: int = 3,
    trial_timeout: float | None = None,
    data: str | Path | None = None,
    skip_corrupt: bool = False,
    trust: bool = False,
    progress: Progress = AUTO,
) -> Study:
    """Search a space: presets first, then what the sampler suggests; ASHA stops the weak trials.

    Args:
        space: a shipped space's name, the path of a space file, or a space made with `space()`.
        trials: the total, presets included.
        name: of the study; None for the space's.
        settings: fix settings, as `{"mix": "mamix", "data.ratio": 50}`.
        epochs: of the full budget; None for the space's.
        objective: the metric to maximise (`imbtune show objectives`), such as `average_precision`
            or `{"name": "recall_at_precision", "precision": 0.9, "of": "fraud"}`; or a list of up
            to three, whose Pareto front is searched, and by the first of which trials are stopped.
            None for the space's.
        seed: of the sampler and of every trial.
        gpus_per_trial: 1/n, a whole number, or "auto": measured first. None for 0.25 where there
            are GPUs.
        cpus_per_trial: whole CPUs; None for an even share.
        max_concurrent: trials at a time; None for as many as fit.
        pack: experimental: train the trials of a GPU in one process.
        address: of a running Ray cluster, "auto" or "HEAD:6379"; "local" or None for this machine.
        storage: the folder or URI (`s3://…`, `gs://…`) in which the study's folder is made.
        sampler: tpe, random, gp, cmaes, qmc or nsga2.
        rungs: what trials are compared by below the full budget: cooldown, compressed, prefix,
            none, or auto: what `calibrate` found.
        calibration: the study that `rungs="auto"` follows; None for the one named after the space.
        never_prune: share of the trials that ASHA would stop which run to the end, in [0, 1], to
            measure what stopping costs.
        finals: how many of the best trials are trained again with fresh seeds, beside the best
            preset; None for 5, or a tenth of the trials if that is less.
        final_seeds: fresh seeds per finalist.
        time_budget: end the trials after so many seconds; the finals come on top.
        max_failures: how many workers in a row a trial may lose, with their process or machine,
            without reaching another rung; it goes on from its last rung on another worker.
        trial_timeout: end a worker that reports nothing for so many seconds; its trial goes on
            once. None for 1800, or ten times the longest silence of a trial, if that is more.
        wandb: off, offline or online.
        wandb_project: of the runs in W&B; None for one named after the space.
        wandb_entity: the user or team that the project belongs to; None for W&B's default.
        wandb_tags: of every run: a list, or words with commas between them.
        tensorboard: show runs in TensorBoard, as files beside the study's tables.
        mlflow: show runs in MLflow, at $MLFLOW_TRACKING_URI.
        data: the data set's folder or file; None for $IMBTUNE_DATA, else a download.
        skip_corrupt: go on without images that cannot be read.
        trust: run modules beside the space that this user has not run before, in the folder of a
            study. Read them first: they can do whatever this user can.
        progress: how progress is shown: auto, live, plain or json (docs/progress.md); or a function
            that is called with each line; None for silence. auto is live on a terminal, else plain.

    Returns:
        The study; its `outcome` says how the search ended.

    Raises:
        ImbtuneError: before anything starts: the space, the data, the study's folder, resources.
        StudyError: every trial failed for one reason; the study stays, and can be resumed.
    """
    from imbtune.config.trust import consent

    check_progress(progress)
    with consent(trust):
        request = search_request(
            space,
            name=name,
            settings=settings,
            epochs=epochs,
            objective=objective,
            rungs=rungs,
            calibration=calibration,
            trials=trials,
            seed=seed,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            pack=pack,
            address=address,
            storage=storage,
            sampler=sampler,
            never_prune=never_prune,
            finals=finals,
            final_seeds=final_seeds,
            time_budget=time_budget,
            wandb=wandb,
            wandb_project=wandb_project,
            wandb_entity=wandb_entity,
            wandb_tags=wandb_tags,
            tensorboard=tensorboard,
            mlflow=mlflow,
            max_failures=max_failures,
            trial_timeout=trial_timeout,
            data=given_path("data", data),
            skip_corrupt=skip_corrupt,
        )

    from imbtune.study.view import Study
    from imbtune.tuning.run_search import run_search

    with consent(trust), reporting(progress) as reporter, naming_restart(reporter):
        for line in request.space.left_out_lines():
            reporter(line)
        outcome = run_search(request, reporter)
    return Study(outcome.path, outcome)


def resume(
    study: str | Path | Study,
    *,
    trials: int | None = None,
    finals: int | None = None,
    gpus_per_trial: float | str | None = None,
    cpus_per_trial: int | None = None,
    max_concurrent: int | None = None,
    pack: bool | None = None,
    address: str | None = None,
    time_budget: float | None = None,
    max_failures: int | None = None,
    trial_timeout: float | None = None,
    retry_failed: bool = False,
    data: str | Path | None = None,
    trust: bool = False,
    progress: Progress = AUTO,
) -> Study | CalibrationOutcome | ComparisonResult:
    """Resume a search, a calibration or a comparison that was interrupted or killed.

    The arguments that are not listed are those of `search`; None stands for the value that the
    study began with.

    Args:
        study: its folder or URI.
        trials: another total of trials; None for the one that it began with.
        finals: another number of finalists; None for the one that it began with.
        time_budget: as in `search`; None for no limit, whatever the study began with.
        address: as in `search`; "local" for this machine, whatever the study began with.
        retry_failed: train the failed trials of a search again, as new trials, which add to its
            total. Failed runs of calibrations, comparisons and finals are always trained again.
        trust: run modules of the study that this user has not run before. Read them first: they can
            do whatever this user can.
        progress: how progress is shown: auto, live, plain or json (docs/progress.md); or a function
            that is called with each line; None for silence. auto is live on a terminal, else plain.

    Returns:
        The study of a search, or what a calibration or a comparison found.

    Raises:
        ImbtuneError: no study there, one that another process searches, other data, modules that
            this user has not run before.
    """
    from imbtune.config.trust import consent
    from imbtune.study.files import purpose_of, read_content
    from imbtune.study.request import CALIBRATION, COMPARISON, SEARCH, resume_changes

    path = _study_path(study)
    given = {
        "trials": trials,
        "finals": finals,
        "gpus_per_trial": gpus_per_trial,
        "cpus_per_trial": cpus_per_trial,
        "max_concurrent": max_concurrent,
        "pack": pack,
        "address": address,
        "max_failures": max_failures,
        "trial_timeout": trial_timeout,
        "data": given_path("data", data),
    }
    changes = {key: value for key, value in given.items() if value is not None}
    check_progress(progress)
    check_options({**changes, "time_budget": time_budget})
    content = read_content(path)
    purpose = purpose_of(content)
    changes = resume_changes(changes, content)
    if purpose != SEARCH:
        refused = {"--time-budget": time_budget, "--trials": trials, "--finals": finals}
        for option, value in refused.items():
            if value is not None:
                raise ConfigError(f"{option} {value:g}: {path} is a {purpose}: leave it out")
        if retry_failed:
            raise ConfigError(
                f"--retry-failed: {path} is a {purpose}, whose failed runs are always trained "
                "again: leave it out"
            )
    if purpose == CALIBRATION:
        from imbtune.tuning.calibration.run_calibration import resume_calibration

        with consent(trust), reporting(progress) as reporter:
            return resume_calibration(path, changes, reporter)
    if purpose == COMPARISON:
        if pack:
            raise ConfigError(f"--pack: {path} is a comparison: leave it out")
        from imbtune.comparison.run_comparison import resume_comparison

        with consent(trust), reporting(progress) as reporter:
            return resume_comparison(path, changes, reporter)

    from imbtune.study.view import Study
    from imbtune.tuning.run_search import resume_search

    with consent(trust), reporting(progress) as reporter:
        outcome = resume_search(
            path, {**changes, "time_budget": time_budget}, reporter, retry_failed
        )
    return Study(outcome.path, outcome)


def load_study(path: str | Path | Study) -> Study:
    """A study on disk or in a bucket, to be read; also while it is being searched.

    Args:
        path: its folder or URI, such as `runs/digits-lt` or `s3://bucket/studies/digits-lt`.

    Raises:
        StudyError: there is no study.
    """
    from imbtune.study.view import Study

    return Study(_study_path(path))


def train(
    what: TrainConfig | Trial | Study | str | Path | None = None,
    *,
    preset: str | None = None,
    space: str | Path | SearchSpace | None = None,
    seeds: int = 1,
    epochs: int | None = None,
    settings: Settings | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    out: str | Path | None = None,
    data: str | Path | None = None,
    skip_corrupt: bool = False,
    baselines: bool = False,
    ema: float | None = None,
    calibrate: float | None = None,
    ensemble: bool = False,
    max_concurrent: int | None = None,
    trust: bool = False,
    workers: int | None = None,
    address: str | None = None,
    progress: Progress = AUTO,
) -> TrainResult:
    """Train a configuration on all training data, and test it once per seed, at the end.

    The same call goes on with a training that was interrupted: models that are complete stay, and
    other seeds go on from their last checkpoint. The result is that of an uninterrupted training.

    Args:
        what: a study or its folder (its best.yaml), a configuration file, a trial of a study
            (`study.winner`), or a TrainConfig (`TrainConfig.from_settings({"mix": "mamix"})`).
            None with `preset`.
        preset: a baseline from the literature, with the data and fixed settings of `space`.
        space: for `preset`: a name, the path of a file, or a space.
        seeds: runs, with the seeds from the configuration's on.
        epochs: instead of the configuration's.
        settings: replace settings of the configuration.
        objective: as in `search`: a metric, or up to three, that are tested with these knobs, by
            `evaluate` later on as well; None for those of the study or space.
        out: the folder for models and results; None for one beside the configuration.
        data: the data set's folder or file; None for $IMBTUNE_DATA, else that of the study, else a
            download.
        skip_corrupt: go on without images that cannot be read.
        baselines: train the study's best preset and `erm` as well, with the same seeds, data and
            epochs, into folders inside `out`.
        ema: decay of an exponential moving average of the weights, such as 0.999, which then is the
            model; None for the weights of the last step.
        calibrate: share of each class's training images, such as 0.1, that trains nothing and fits
            a temperature for the probabilities; None to train on all images.
        ensemble: test the mean of the seeds' probabilities, too, which
            `load_model(path, ensemble=True)` gives.
        max_concurrent: seeds that are trained at a time, each by a process of its own with a GPU or
            an even share of the CPUs; None for as many as this machine has GPUs. Without Ray they
            are trained one after another.
        trust: run modules beside the configuration that this user has not run before. Read them
            first: they can do whatever this user can.
        workers: processes that train each seed together, each on its part of every batch, with a
            GPU or an even share of the CPUs; each step is that of one process but for rounding,
            which grows: the finished model differs as from another run. For large networks; small
            ones get slower. None to train in this process, without Ray.
        address: with `workers`: of a running Ray cluster, "auto" or "HEAD:6379"; None for this
            machine.
        progress: how progress is shown: auto, live, plain or json (docs/progress.md); or a function
            that is called with each line; None for silence. auto is live on a terminal, else plain.

    Returns:
        What was trained, with the metrics on the test images.

    Raises:
        ImbtuneError: before anything is trained: the configuration, the data, the folder, modules
            that this user has not run before.
        DivergenceError: a seed diverged; the models of the seeds before it stay.
        ClusterError: workers died again and again; the models of the seeds before stay.
    """
    from imbtune.config.trust import consent
    from imbtune.final_training import train_input, unfinished
    from imbtune.final_training.final_task import TrainOptions
    from imbtune.final_training.retrain import train_final
    from imbtune.progress.run_events import WorkEnded

    check_whole("seeds", seeds)
    check_progress(progress)
    check_options({"address": address})
    options = TrainOptions(ema, calibrate, ensemble)
    options.check(seeds)
    if workers is None and address is not None:
        raise ConfigError(f"--address {address} goes with --workers: give their number, too")
    open_trainer, note = _open_trainer(seeds, workers, address, max_concurrent)
    replaced = checked_settings(settings, epochs)
    objectives = None if objective is None else given_objectives(objective)
    with consent(trust):
        given = train_input.with_out(
            _train_input(what, preset, space, replaced), given_path("out", out)
        )
        if objectives is not None:
            given = train_input.with_objectives(given, objectives)
        others = train_input.baselines_of(given, replaced) if baselines else {}
    folder = given_path("data", data)
    if folder is None:
        folder, skipped = train_input.data_of_study(given)
        skip_corrupt = skip_corrupt or skipped

    def trained(one: train_input.TrainInput, reporter: Reporter, later: int) -> TrainResult:
        return train_final(
            one.config,
            seeds,
            one.out,
            folder,
            one.provenance,
            reporter,
            one.imports,
            skip_corrupt,
            open_trainer,
            later,
            options,
        )

    with reporting(progress) as reporter:
        if note:
            reporter(note)
        if preset is not None and (changed := given.provenance.get("changed")):
            reporter(f"This is no longer the preset {preset}: {', '.join(changed)}")
        found: dict[str, TrainResult] = {}
        try:
            result = trained(given, reporter, seeds * len(others))
            for i, (name, other) in enumerate(others.items(), 1):
                reporter(f"Baseline {name}:")
                found[name] = trained(other, reporter, seeds * (len(others) - i))
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt("the same command goes on") from error
        runs = seeds * (1 + len(others))
        text = f"training ended: {runs} run{'s' * (runs > 1)}"
        reporter.tell(WorkEnded(reporter.now(), text, path=str(result.path)))
    for one in (*found.values(), result):  # until here the same call goes on with all of them
        unfinished.end(one.path)
    return replace(result, baselines=found)


def _open_trainer(
    seeds: int, workers: int | None, address: str | None, max_concurrent: int | None
) -> tuple[OpenTrainer, str]:
    """What trains the seeds of :func:`train`: this process, or workers of Ray.

    Returns:
        The trainer, and a line for the user, or an empty text.
    """
    from imbtune.final_training.seed_training import in_this_process
    from imbtune.training.state import gpu_count

    check_whole("max_concurrent", max_concurrent, optional=True)
    if workers is not None:
        if max_concurrent is not None:
            raise ConfigError(
                f"--max-concurrent {max_concurrent} and --workers {workers}: give one of them, "
                "since workers train one seed together, and the seeds one after another"
            )
        return _worker_group(workers, address), ""
    at_a_time = min(seeds, gpu_count() if max_concurrent is None else max_concurrent)
    if at_a_time < 2:
        return in_this_process, ""
    try:
        from imbtune.comparison.seeds_side_by_side import SideBySide
    except ImportError as error:
        line = f"Ray cannot be used ({error}): the seeds are trained one after another"
        return in_this_process, line
    side_by_side = SideBySide(at_a_time)
    side_by_side.check()
    return side_by_side, ""


def _train_input(
    what: object, preset: str | None, space: str | Path | SearchSpace | None, replaced: Settings
) -> TrainInput:
    """The configuration that :func:`train` is asked for."""
    from imbtune.config.train_config import TrainConfig
    from imbtune.final_training import train_input
    from imbtune.study.view import Study, Trial

    if preset is not None:
        if what is not None:
            raise ConfigError(
                f"{_short(what)} and --preset {preset}: give one of them; the space of a preset is "
                f"given as --preset {preset} --space {_short(what)}"
            )
        if space is None:
            raise ConfigError(f"--preset {preset} needs --space: the data to train it on")
        return train_input.from_preset(preset, space, replaced)
    if space is not None:
        raise ConfigError(f"--space {_short(space)} goes with --preset: a file names its own data")
    if isinstance(what, TrainConfig):
        return train_input.from_config(what, replaced)
    if isinstance(what, Trial):
        return train_input.from_trial(what, replaced)
    if isinstance(what, Study):
        return train_input.from_study(what.path, replaced)
    if what is None:
        raise ConfigError(
            "nothing to train: give a configuration, such as runs/NAME/best.yaml, or --preset and "
            "--space (in Python, study.winner is None without finals: give study.best)"
        )
    if isinstance(what, str | Path):
        return train_input.from_path(path_or_uri("the configuration", what), replaced)
    raise ConfigError(
        f"cannot train {_short(what)}: give a configuration file, a study, a trial or a TrainConfig"
    )


def compare(
    space: str | Path | SearchSpace,
    presets: str | Sequence[str] | None = None,
    *,
    study: str | Path | Study | Sequence[str | Path | Study] | None = (),
    seeds: int = 5,
    seed: int = 0,
    reference: str | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    gpus_per_trial: float | str | None = None,
    cpus_per_trial: int | None = None,
    max_concurrent: int | None = None,
    address: str | None = None,
    storage: str | Path = "runs",
    max_failures: int = 3,
    trial_timeout: float | None = None,
    data: str | Path | None = None,
    skip_corrupt: bool = False,
    trust: bool = False,
    progress: Progress = AUTO,
) -> ComparisonResult:
    """Train presets and studies' winners on all training data, with the same seeds; test each once.

    Each run does what `train` does, on Ray's workers; no model is kept. The arguments that are not
    listed are those of `search`.

    Args:
        space: a name, the path of a file, or a space: its data and fixed settings are used.
        presets: names, as a list or separated by commas; "all" for all presets that there are,
            "none" for none. None for those that a search of the space starts with.
        study: one or more studies whose winners are compared too.
        seeds: runs of each configuration.
        seed: the first of the seeds.
        reference: the row that the others are tested against: a preset, or a study's name with
            `-winner`. None for the best row.
        objective: the metric of ranks and tests; of a list the first, and the others have columns,
            too. None for the space's.
        name: of the comparison's study; None for the space's with -comparison.
        trust: run modules of the studies and the space that this user has not run before. Read
            them first: they can do whatever this user can.

    Returns:
        The result; its `table` is a pandas DataFrame.

    Raises:
        ImbtuneError: before anything starts; StudyError where all runs failed.
    """
    from imbtune.config.trust import consent

    check_progress(progress)
    check_whole("seeds", seeds)
    check_whole("seed", seed)
    names, studies = _preset_names(presets), _several_studies(study)
    check_options({"reference": reference})
    if reference is not None and not isinstance(reference, str):
        raise ConfigError(f"--reference {shown(reference)}: give the name of a row")
    with consent(trust):
        request = search_request(
            space,
            name=name,
            settings=settings,
            epochs=epochs,
            objective=objective,
            trials=1,  # counted below
            seed=seed,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            address=address,
            storage=storage,
            max_failures=max_failures,
            trial_timeout=trial_timeout,
            data=given_path("data", data),
            skip_corrupt=skip_corrupt,
        )

    from imbtune.comparison.run_comparison import run_comparison
    from imbtune.study.request import COMPARISON_SUFFIX

    request = replace(request, name=name or request.space.name + COMPARISON_SUFFIX)
    every = range(seed, seed + seeds)
    with consent(trust), reporting(progress) as reporter, naming_restart(reporter):
        return run_comparison(request, names, studies, every, reference, reporter)


def calibrate(
    space: str | Path | SearchSpace,
    trials: int = 16,
    *,
    name: str | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    seed: int = 0,
    gpus_per_trial: float | str | None = None,
    cpus_per_trial: int | None = None,
    max_concurrent: int | None = None,
    pack: bool = False,
    address: str | None = None,
    storage: str | Path = "runs",
    wandb: str = "off",
    wandb_project: str | None = None,
    wandb_entity: str | None = None,
    wandb_tags: str | Sequence[str] | None = None,
    tensorboard: bool = False,
    mlflow: bool = False,
    max_failures: int = 3,
    trial_timeout: float | None = None,
    data: str | Path | None = None,
    skip_corrupt: bool = False,
    trust: bool = False,
    progress: Progress = AUTO,
) -> CalibrationOutcome:
    """Measure how well each rung predicts the finished model; `search(rungs="auto")` follows it.

    The arguments that are not listed are those of `search`.

    Args:
        space: a name, the path of a file, or a space.
        trials: random configurations, at least 8; each is trained with two seeds.
        name: of the calibration's study; None for the space's with -calibration.

    Raises:
        ImbtuneError: before anything starts; StudyError where too many trials failed.
    """
    from imbtune.config.trust import consent

    check_progress(progress)
    check_whole("trials", trials, bounds=(8, CALIBRATION_TRIALS))
    with consent(trust):
        request = search_request(
            space,
            name=name,
            settings=settings,
            epochs=epochs,
            objective=objective,
            trials=trials,
            seed=seed,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            pack=pack,
            address=address,
            storage=storage,
            wandb=wandb,
            wandb_project=wandb_project,
            wandb_entity=wandb_entity,
            wandb_tags=wandb_tags,
            tensorboard=tensorboard,
            mlflow=mlflow,
            max_failures=max_failures,
            trial_timeout=trial_timeout,
            data=given_path("data", data),
            skip_corrupt=skip_corrupt,
        )

    from imbtune.study.request import CALIBRATION_SUFFIX
    from imbtune.tuning.calibration.run_calibration import run_calibration

    named = replace(request, name=name or request.space.name + CALIBRATION_SUFFIX)
    with consent(trust), reporting(progress) as reporter, naming_restart(reporter):
        return run_calibration(named, reporter)


def plan(
    space: str | Path | SearchSpace,
    trials: int = 100,
    *,
    gpus: int | None = None,
    cpus: int | None = None,
    study: str | Path | Study | None = None,
    settings: Settings | None = None,
    epochs: int | None = None,
    objective: Objective | Sequence[Objective] | None = None,
    seed: int = 0,
    gpus_per_trial: float | None = None,
    cpus_per_trial: int | None = None,
    max_concurrent: int | None = None,
    storage: str | Path = "runs",
    sampler: str = "tpe",
    rungs: str = "cooldown",
    calibration: str | Path | None = None,
    never_prune: float = 0.05,
    finals: int | None = None,
    final_seeds: int = 3,
    data: str | Path | None = None,
    skip_corrupt: bool = False,
    trust: bool = False,
) -> Forecast:
    """What a search would take: time, GPU hours, and the trials that reach each rung.

    The real scheduler runs in simulated time; how fast a trial trains is measured on this machine,
    or taken from a study.

    The arguments that are not listed are those of `search`.

    Args:
        space: a name, the path of a file, or a space.
        gpus: in all; None for this machine's.
        cpus: in all; None for this machine's.
        study: take the speed of this study's trials, and measure nothing.

    Raises:
        ImbtuneError: the space, the data, resources that no machine has.
    """
    from imbtune.config.trust import consent

    check_whole("gpus", gpus, optional=True)
    check_whole("cpus", cpus, optional=True)
    with consent(trust):
        request = search_request(
            space,
            any_name=True,
            settings=settings,
            epochs=epochs,
            objective=objective,
            rungs=rungs,
            calibration=calibration,
            trials=trials,
            seed=seed,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            storage=storage,
            sampler=sampler,
            never_prune=never_prune,
            finals=finals,
            final_seeds=final_seeds,
            data=given_path("data", data),
            skip_corrupt=skip_corrupt,
        )

    from imbtune.tuning.forecast.forecast import forecast_search

    speed_of = None if study is None else _study_path(study)
    with consent(trust):
        return forecast_search(request, gpus, cpus, speed_of)


def space(name: str, folder: str | Path = ".", **fields: object) -> SearchSpace:
    """A search space made in Python instead of a YAML file.

        imbtune.space("mine", like="digits-lt", knobs={"mix": ["none", "mamix"], "mix.omega": None})

    Args:
        name: of the space, and of its studies by default.
        folder: where the modules in `imports` and a path in `like` are looked for.
        fields: those of a space file: like, about, imports, data, train, objective or
            objectives, rungs, late_variants, presets, knobs. Their values are what YAML can hold:
            words, numbers, lists and dictionaries.

    Raises:
        ConfigError: an unknown field, part or knob, or a range that cannot be.
    """
    import yaml

    from imbtune.config.yaml_files import parse_yaml
    from imbtune.spaces.space_file import parse_space

    if not isinstance(name, str):
        raise ConfigError(f"the space's name {shown(name)}: give text")
    try:  # the study's space.yaml will hold them, so what YAML cannot hold is refused here
        text = yaml.safe_dump(fields)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"the space {name} cannot be written as YAML ({error}): give words, numbers, lists and "
            "dictionaries"
        ) from error
    return parse_space(name, parse_yaml(f"the space {name}", text), Path(folder))


def registries() -> dict[str, Registry]:
    """The registries of all slots and mixing parts by name, to list their parts.

        [part.name for part in imbtune.registries()["loss"]]

    A part of yours is registered in a module that a space names in `imports`
    (`@registries()["loss"].register("mine", help="…")`): trials run in other processes, which do
    not have what a notebook or a script registers.
    """
    from imbtune.config.slots import registries as all_registries

    return {registry.slot: registry for registry in all_registries()}


def _preset_names(presets: object) -> list[str] | None:
    """The names in a list, or in text that separates them by commas."""
    if presets is None:
        return None
    if isinstance(presets, str):
        presets = [name.strip() for name in presets.split(",")]
    if not isinstance(presets, Sequence) or not all(isinstance(name, str) for name in presets):
        raise ConfigError(f"--presets {shown(presets)}: give names of presets, or all")
    if not presets or "" in presets:
        raise ConfigError(f"--presets {','.join(presets)!r}: it has an empty name: leave it out")
    return list(presets)


def _several_studies(study: object) -> list[str]:
    """The folders or URIs of no study, one or several."""
    if study is None:
        return []
    several = study if isinstance(study, Sequence) and not isinstance(study, str) else [study]
    return [_study_path(each) for each in several]


def _short(given: object) -> str:
    """A path, the path of a study, the name of a space, or else the kind of object."""
    if isinstance(given, str | Path):
        return str(given)
    named = getattr(given, "path", None) or getattr(given, "name", None)
    return str(named or f"a {type(given).__name__}")


def _worker_group(workers: int, address: str | None) -> OpenTrainer:
    """Workers of Ray Train on this machine or a cluster; raises ImbtuneError if they cannot be."""
    from imbtune.study.request import LOCAL

    check_whole("workers", workers)
    try:
        from imbtune.parallel_training.run_workers import WorkerGroup
    except ImportError as error:
        raise ConfigError(
            f"--workers {workers} needs Ray Train ({error}): pip install 'ray[train]'"
        ) from error
    group = WorkerGroup(workers, None if address == LOCAL else address)
    group.check()
    return group


def _study_path(study: object) -> str:
    """The folder or URI of a study that is given by it, or as a Study."""
    return path_or_uri("the study", getattr(study, "path", study))
