"""Does Mixup make the margins of classes uneven, and margin-aware Mixup even more? On CIFAR-10-LT.

    python benchmarks/margins.py train --data FOLDER_WITH_CIFAR10 --out margins.parquet
    python benchmarks/margins.py report --out margins.parquet --figure docs/margins.png

This tests the claim of arXiv 2308.15457. `train` trains a small network on images reduced to 16×16,
every method with the same seeds; runs that are already in the file of `--out` are skipped. `report`
prints the tables of docs/margins.md and draws its figure.
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from imbtune.config.train_config import TrainConfig
from imbtune.data.load import DataSource, load
from imbtune.data.splits import Dataset, Images, Splits, search_splits
from imbtune.metrics.metric import compute
from imbtune.metrics.predictions import Confusion
from imbtune.registry import Value
from imbtune.spaces.presets import find_preset
from imbtune.training.device.device_data import DeviceData
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import RungResult, train_through_rungs

FIXED: dict[str, Value] = {
    "data": "cifar10",
    "data.ratio": 100,
    "data.val_per_class": 200,
    "model": "small_cnn",
    "model.width": 32,
    "precision": "float32",
    "schedule": "linear",
    "schedule.cooldown": 0.4,
    "schedule.warmup": 0.05,
}
METHODS: dict[str, tuple[str, dict[str, Value]]] = {
    "ERM": ("erm", {}),
    "Mixup": ("mixup", {}),
    "Remix": ("remix", {}),
    "MAMix ω=0.25": ("mamix", {"mix.omega": 0.25}),
    "MAMix ω=1": ("mamix", {"mix.omega": 1.0}),
    "DRW": ("drw", {}),
    "Mixup-DRW": ("mixup_drw", {}),
    "MAMix-DRW ω=0.25": ("mamix_drw", {"mix.omega": 0.25}),
}
GROUPS = {"head": slice(0, 3), "middle": slice(3, 7), "tail": slice(7, 10)}  # classes by size


def shrunk(images: Images) -> Images:
    """The images at half the resolution: each pixel is the mean of 2×2."""
    pooled = F.avg_pool2d(torch.from_numpy(np.asarray(images.pixels)).float(), 2)
    return Images(pooled.round().to(torch.uint8).numpy(), images.labels)


@cache
def splits_of(data: Path) -> Splits:
    """Training and validation sets as a search sees them, at half the resolution."""
    full = load("cifar10", {}, DataSource(data))
    small = Dataset(shrunk(full.train), shrunk(full.test), full.classes, full.preprocessing)
    return search_splits(small, TrainConfig.from_settings(FIXED).data.shared)


def run(task: tuple[str, int, int, Path]) -> dict[str, object]:
    """Train one method with one seed; its metrics and the mean margins of each class, as a row."""
    name, seed, epochs, data = task
    torch.set_num_threads(1)
    preset, changes = METHODS[name]
    settings = {**FIXED, **find_preset(preset).on("cifar10"), **changes} | {
        "seed": seed,
        "epochs": epochs,
    }
    config = TrainConfig.from_settings(settings)
    tensors = DeviceData(splits_of(data), torch.device("cpu"))
    *_, last = train_through_rungs(
        [config], tensors, rung_segments("prefix", [epochs], config.schedule.shared)
    )
    assert isinstance(last, RungResult) and last.margins
    metrics = compute(Confusion.of(last.confusion_KK, tensors.counts_K))
    margins = {key: mean_K.tolist() for key, mean_K in last.margins._asdict().items()}
    return {"method": name, "seed": seed, "epochs": epochs, **metrics, **margins}


def train(data: Path, out: Path, seeds: int, epochs: int, jobs: int) -> None:
    """Train the runs that are not in `out`; all methods with one seed before the next seed."""
    tables = [pd.read_parquet(out)] if out.exists() else []
    done = {tuple(key) for t in tables for key in t[["method", "seed", "epochs"]].to_numpy()}
    tasks = [
        (name, seed, epochs, data)
        for seed in range(seeds)
        for name in METHODS
        if (name, seed, epochs) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for row in pool.imap(run, tasks):
            tables.append(pd.DataFrame([row]))
            pd.concat(tables, ignore_index=True).to_parquet(out)
            print(f"{row['method']}, seed {row['seed']}: {row['balanced_accuracy']}", flush=True)


def group_means(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Means of a per-class column over head, middle and tail, and tail - head; one row per run."""
    values = np.stack(table[column].to_list())
    means = {name: values[:, classes].mean(1) for name, classes in GROUPS.items()}
    means["tail - head"] = means["tail"] - means["head"]
    return pd.DataFrame({"method": table["method"].to_numpy(), **means})


def report(out: Path, figure: Path) -> None:
    """Print the tables, mean ± sample standard deviation over seeds, and draw the figure."""
    table = pd.read_parquet(out)
    order = [name for name in METHODS if name in set(table["method"])]
    print(f"{table['seed'].nunique()} seeds, {table['epochs'].max()} epochs\n")
    for column, title in [
        ("train_logit_K", "Training examples, logit margin"),
        ("held_out_logit_K", "Validation examples, logit margin"),
        ("train_probability_K", "Training examples, probability margin"),
        ("held_out_probability_K", "Validation examples, probability margin"),
    ]:
        grouped = group_means(table, column).groupby("method")
        mean, std = grouped.mean(), grouped.std()
        print(f"{title}\n\n| method | {' | '.join(mean.columns)} |")
        print("|---|" + "---:|" * len(mean.columns))
        for name in order:
            cells = [_spread(mean[c][name], std[c][name], 2) for c in mean.columns]
            print(f"| {name} | {' | '.join(cells)} |")
        print()
    scores = table.groupby("method")[["balanced_accuracy", "worst_class"]]
    mean, std = scores.mean(), scores.std()
    print("| method | balanced accuracy | worst class |\n|---|---:|---:|")
    for name in order:
        cells = [_spread(mean[c][name], std[c][name], 4) for c in mean.columns]
        print(f"| {name} | {' | '.join(cells)} |")
    draw(table, order, figure)


def _spread(mean: float, deviation: float, digits: int) -> str:
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def draw(table: pd.DataFrame, order: list[str], figure: Path) -> None:
    """Plot the mean margin of each class, one line per method, for training and validation."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.use("Agg")
    shown = {
        "without re-weighting": [n for n in order if "DRW" not in n],
        "deferred re-weighting": [n for n in order if "DRW" in n],
    }
    fig, axes = plt.subplots(2, 2, figsize=(10, 7), sharex=True, sharey="col")
    for row, (title, names) in zip(axes, shown.items(), strict=True):
        for axis, column, split in zip(
            row, ("train_logit_K", "held_out_logit_K"), ("training", "validation"), strict=True
        ):
            for name in names:
                values = np.stack(table.loc[table["method"] == name, column].to_list())
                axis.errorbar(
                    range(values.shape[1]), values.mean(0), values.std(0, ddof=1), label=name
                )
            axis.axhline(0, color="grey", linewidth=0.5)
            axis.set_title(f"{split} examples, {title}", fontsize=10)
            axis.set_ylabel("mean logit margin")
        row[1].legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("class, from the largest to the smallest")
    fig.tight_layout()
    fig.savefig(figure, dpi=110)
    print(f"\nFigure: {figure}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("margins.parquet"))
    parser.add_argument("--figure", type=Path, default=Path("docs/margins.png"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.what == "train":
        train(options.data, options.out, options.seeds, options.epochs, options.jobs)
    else:
        report(options.out, options.figure)


if __name__ == "__main__":
    main()
