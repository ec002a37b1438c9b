"""Record the predictions of many configurations, each trained with many seeds.

    python benchmarks/evidence/record_predictions.py --out FOLDER

The configurations are the presets of `digits-lt` and random ones of its space. They are trained on
the images of a search; all other images of the data set, test images included, are predicted: the
population from which `coverage.py` draws validation sets. One more configuration, plain
cross-entropy, is trained with many seeds, for searches in which no trial is better than another.
Writes a file per run, `CONFIG-SEED.npy`, float32 logits (M, K), and `labels.npy`; runs that are
there are skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import optuna
import torch

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Splits, search_splits
from imbtune.errors import DivergenceError
from imbtune.seeds import Purpose, derived_seed, trial_seed
from imbtune.spaces.space_file import load_space
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import RungResult, train_through_rungs

SPACE = "digits-lt"
EPOCHS = 27  # a third of the space: the runs need not be good, but many
NULL = "erm"  # the configuration that is trained with many seeds


def configurations(count: int) -> dict[str, TrainConfig]:
    """The presets by name, then random configurations by their number."""
    space = load_space(SPACE)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = {str(n): space.suggest(study.ask(), trial_seed(0, n)) for n in range(count)}
    return {name: space.preset(name) for name in space.presets()} | drawn


def population() -> Splits:
    """The training images of a search, and all others."""
    base = load_space(SPACE).base()
    full = load(base.data.name, base.data.knobs, DataSource(None))
    found = search_splits(full, base.data.shared)
    assert found.train.names is not None and full.train.names is not None
    trained = set(found.train.names.to_pylist())
    others = np.array([name not in trained for name in full.train.names.to_pylist()])
    kept = full.train.take(np.flatnonzero(others))
    pixels = np.concatenate([kept.array(), full.test.array()])
    labels = np.concatenate([full.train.labels[others], full.test.labels])
    held_out = type(full.train)(pixels, labels)
    return Splits(found.train, held_out, found.classes, found.preprocessing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=17, help="random configurations")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--null-seeds", type=int, default=320)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options.out.mkdir(parents=True, exist_ok=True)
    splits = population()
    data = DeviceData(splits, torch.device("cpu"))
    np.save(options.out / "labels.npy", splits.held_out.labels)
    configs = configurations(options.configs)
    tasks = [(name, seed) for seed in range(options.seeds) for name in configs]
    tasks += [(NULL, seed) for seed in range(options.seeds, options.null_seeds)]
    for ended, (name, seed) in enumerate(tasks, 1):
        path = options.out / f"{name}-{seed}.npy"
        if path.exists():
            continue
        seeded = derived_seed(0, seed, Purpose.FINALS)
        config = configs[name].replace(seed=seeded, epochs=EPOCHS)
        segments = rung_segments("cooldown", [config.epochs], config.schedule.shared)
        *_, result = train_through_rungs([config], data, segments)
        if not isinstance(result, RungResult):
            raise DivergenceError(f"{name}, seed {seed}: {result}")
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, result.predictions.logits_NK.numpy())
        part.replace(path)
        if ended % 20 == 0 or ended == len(tasks):
            print(f"{ended} of {len(tasks)} runs", flush=True)


if __name__ == "__main__":
    main()
