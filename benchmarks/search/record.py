"""Record the learning curves and rung scores of random configurations, under every kind of rung.

    python benchmarks/search/record.py digits-lt --configs 160 --seeds 3 --out FOLDER
    python benchmarks/search/record.py benchmarks/search/cifar10-16.yaml --data cifar10-16.npz \\
        --configs 48 --seeds 2 --out FOLDER

Every configuration is trained once with all rungs of every kind (`calibration_segments` of
imbtune.training.phases), and with further seeds to the full budget only, for its true score. Writes
`NAME-rungs.parquet`, one row per score, and `NAME-curves.parquet`, one row per epoch. Runs that are
already in these files are skipped.
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import search_splits
from imbtune.errors import DivergenceError
from imbtune.metrics.predictions import Confusion
from imbtune.seeds import trial_seed
from imbtune.spaces.search_space import Rungs, SearchSpace
from imbtune.spaces.space_file import load_space
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import calibration_segments, rung_segments
from imbtune.training.rungs import Diverged, RungResult, train_through_rungs

RUNGS = Rungs(eta=3, count=4)


@cache
def configurations(space: str, count: int) -> list[TrainConfig]:
    """Random configurations of the space, seed 0; each has its own training seed."""
    loaded = load_space(space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [loaded.suggest(study.ask(), trial_seed(0, n)) for n in range(count)]


@cache
def tensors(space: str, data: Path | None) -> tuple[SearchSpace, DeviceData]:
    """The space, and the data that a search of it uses."""
    loaded = load_space(space)
    base = loaded.base()
    full = load(base.data.name, base.data.knobs, DataSource(data))
    return loaded, DeviceData(search_splits(full, base.data.shared), torch.device("cpu"))


def run(task: tuple[str, Path | None, int, int, int]) -> tuple[list[Any], list[Any]]:
    """Train one configuration with one seed; its rows of the rungs and of the curves table."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name, folder, count, number, seed = task
    space, data = tensors(name, folder)
    config = configurations(name, count)[number]
    budgets, phases = RUNGS.budgets(config.epochs), config.schedule.shared
    if seed:
        config = config.replace(seed=trial_seed(seed, number))
        segments = rung_segments("cooldown", budgets[-1:], phases)
    else:
        segments = calibration_segments(budgets, phases)
    rungs, curves = [], []
    for result in train_through_rungs([config], data, segments):
        if isinstance(result, Diverged):
            raise DivergenceError(result.reason)
        row = {
            "config": number,
            "seed": seed,
            "kind": result.segment.kind,
            "budget": result.segment.budget,
            "score": space.objective.score(Confusion.of(result.confusion_KK, data.counts_K)),
        }
        if isinstance(result, RungResult):
            settings = {} if seed else config.flat()
            rungs.append({**settings, **row, "passes": result.passes})
        else:
            epoch = result.epoch
            curves.append({**row, "epoch": epoch.index, "phase": epoch.phase, "loss": result.loss})
    return rungs, curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--configs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    name = Path(options.space).stem
    paths = [options.out / f"{name}-{table}.parquet" for table in ("rungs", "curves")]
    tables = [[pd.read_parquet(path)] if path.exists() else [] for path in paths]
    done = {tuple(k) for t in tables[0] for k in t[["config", "seed"]].to_numpy()}
    tasks = [
        (options.space, options.data, options.configs, number, seed)
        for number in range(options.configs)
        for seed in range(options.seeds)
        if (number, seed) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for ended, rows in enumerate(pool.imap_unordered(run, tasks), 1):
            for table, new in zip(tables, rows, strict=True):
                table.append(pd.DataFrame(new))
            if ended % 20 == 0 or ended == len(tasks):
                for path, table in zip(paths, tables, strict=True):
                    pd.concat(table, ignore_index=True).to_parquet(path, compression="zstd")
                print(f"{ended} of {len(tasks)} runs", flush=True)


if __name__ == "__main__":
    main()
