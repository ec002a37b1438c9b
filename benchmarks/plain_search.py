"""The search of digits-lt as a plain script: a training function, Ray Tune and Optuna.

    python benchmarks/plain_search.py [--trials 30]

Images and network are imbtune's, so that both searches train the same. The rest is what a plain
script has: a DataLoader, one report per epoch, Ray Tune's ASHA, Optuna's TPE through
`OptunaSearch`, a new process for every trial, Tune's own loggers. Prints a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import Any

import numpy as np
import optuna
import ray
import torch
import torch.nn.functional as F
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from torchvision.transforms import RandomCrop

from imbtune.data.data_source import DataSource
from imbtune.models.networks import build_model
from imbtune.spaces.space_file import load_space
from imbtune.tuning.session import load_search_splits

EPOCHS, FIRST_RUNG, ETA, BATCH, WARMUP, CLASSES = 81, 27, 3, 64, 2, 10

Config = dict[str, Any]
Data = dict[str, Any]  # images (N, 1, 8, 8) and labels (N,) for training and validation

# Shapes: N images, B images of a batch, K classes.


def space(trial: optuna.Trial) -> None:
    """The space of digits-lt, define-by-run."""
    mix = trial.suggest_categorical(
        "mix", ["none", "smote", "soft_smote", "mixup", "remix", "mamix"]
    )
    if mix != "none":
        trial.suggest_float("alpha", 0.1, 2, log=True)
        trial.suggest_categorical("mix_late", ["keep", "stop"])
    if mix == "mamix":
        trial.suggest_float("omega", 0, 1)
    if mix == "remix":
        trial.suggest_float("kappa", 1.5, 10, log=True)
        trial.suggest_float("remix_tau", 0, 1)
    loss = trial.suggest_categorical("loss", ["ce", "ldam", "logit_adjustment", "vs"])
    if loss == "ldam":
        trial.suggest_float("margin", 0.1, 0.9)
        trial.suggest_float("scale", 10, 50, log=True)
    if loss in ("logit_adjustment", "vs"):
        trial.suggest_float("tau", 0, 2.5)
    if loss == "vs":
        trial.suggest_float("slope", 0, 0.5)
    weights = trial.suggest_categorical("weights", ["none", "inverse", "effective_number"])
    if weights == "inverse":
        trial.suggest_float("power", 0.25, 1.5)
    if weights == "effective_number":
        trial.suggest_float("one_less_beta", 1e-5, 0.1, log=True)
    if weights != "none":
        trial.suggest_categorical("schedule", ["always", "deferred", "linear"])
    trial.suggest_categorical("sampler", ["instance", "class_balanced"])
    trial.suggest_float("lr", 0.02, 0.5, log=True)
    trial.suggest_float("weight_decay", 1e-4, 1e-2, log=True)
    trial.suggest_float("cooldown", 0.1, 0.6)


def train(config: Config, data: Data) -> None:
    """Train one trial and report its score after every epoch."""
    counts_K = torch.bincount(data["labels"], minlength=CLASSES).float()
    cosine = "cosine" if config["loss"] == "ldam" else "linear"
    model = build_model("small_cnn", {"width": 16, "head": cosine}, cosine, 1, CLASSES)
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], momentum=0.9, weight_decay=config["weight_decay"]
    )
    loader = make_loader(config, data, counts_K)
    neighbours = nearest(data, same_class=config["mix"] == "smote")
    for epoch in range(EPOCHS):
        cooldown_done = max(0.0, 1 - (EPOCHS - epoch) / (EPOCHS * config["cooldown"]))
        rate = config["lr"] * min(1, (epoch + 1) / WARMUP) * (1 - cooldown_done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        weights_K = class_weights(config, counts_K, cooldown_done)
        model.train()
        total = 0.0
        for index, images, labels in loader:
            images, other, g = mixed(
                config, data, counts_K, neighbours, cooldown_done, index, images
            )
            logits = model(images)
            loss_i = margin_loss(config, logits, labels, counts_K)
            loss_j = margin_loss(config, logits, other, counts_K)
            a, b = g * weights_K[labels], (1 - g) * weights_K[other]
            loss = (a * loss_i + b * loss_j).sum() / (a + b).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        tune.report({"score": balanced_accuracy(model, data), "loss": total / len(loader)})


class Digits(Dataset[tuple[int, Tensor, int]]):
    """Each image, shifted by up to one pixel, with its index and label."""

    def __init__(self, data: Data) -> None:
        self.images, self.labels = data["images"], data["labels"]
        self.shift = RandomCrop(8, padding=1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[int, Tensor, int]:
        return index, self.shift(self.images[index]), int(self.labels[index])


def make_loader(config: Config, data: Data, counts_K: Tensor) -> DataLoader[Any]:
    labels, dataset = data["labels"], Digits(data)
    if config["sampler"] == "instance":
        return DataLoader(dataset, BATCH, shuffle=True, drop_last=True)
    sampler = WeightedRandomSampler((1 / counts_K)[labels].tolist(), len(labels))
    return DataLoader(dataset, BATCH, sampler=sampler, drop_last=True)


def nearest(data: Data, same_class: bool) -> Tensor:
    """The five nearest images of each, (N, 5), for SMOTE; the image itself for missing ones."""
    flat, labels = data["images"].flatten(1), data["labels"]
    distance = torch.cdist(flat, flat)
    distance.fill_diagonal_(torch.inf)
    if same_class:
        distance[labels[:, None] != labels[None]] = torch.inf
    found = distance.topk(5, largest=False)
    return torch.where(found.values.isinf(), torch.arange(len(flat))[:, None], found.indices)


def mixed(
    config: Config,
    data: Data,
    counts_K: Tensor,
    neighbours: Tensor,
    cooldown_done: float,
    index: Tensor,
    images: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixed images, the partners' labels (B,), and the share of the first label (B,)."""
    labels, mix = data["labels"], config["mix"]
    if mix == "none" or (cooldown_done > 0 and config["mix_late"] == "stop"):
        return images, labels[index], torch.ones(len(index))
    lam = float(np.random.beta(config["alpha"], config["alpha"]))
    partner = index[torch.randperm(len(index))]
    if mix in ("smote", "soft_smote"):
        partner = neighbours[index, torch.randint(0, 5, (len(index),))]
    blend = lam * images + (1 - lam) * data["images"][partner]
    first, second = labels[index], labels[partner]
    pairs = zip(counts_K[first].tolist(), counts_K[second].tolist(), strict=True)
    return blend, second, torch.tensor([label_share(config, lam, i, j) for i, j in pairs])


def label_share(config: Config, lam: float, n_i: float, n_j: float) -> float:
    """The share of the first label where the first image has the share `lam`."""
    if config["mix"] == "smote":
        return 1.0
    if config["mix"] == "remix":
        if n_i / n_j >= config["kappa"] and lam < config["remix_tau"]:
            return 0.0
        if n_i / n_j <= 1 / config["kappa"] and 1 - lam < config["remix_tau"]:
            return 1.0
    if config["mix"] == "mamix":
        m = 1 / (1 + (n_i / n_j) ** float(config["omega"]))
        x = 1 - lam
        return float(1 - x / (2 * m) if x <= m else (1 - x) / (2 * (1 - m)))
    return lam


def margin_loss(config: Config, logits: Tensor, labels: Tensor, counts_K: Tensor) -> Tensor:
    """The loss of each image, (B,)."""
    log_prior_K = (counts_K / counts_K.sum()).log()
    if config["loss"] == "ldam":
        m_K = counts_K**-0.25
        margins = config["margin"] * m_K / m_K.max()
        logits = logits - margins[labels][:, None] * F.one_hot(labels, CLASSES)
        logits = config["scale"] * logits
    elif config["loss"] == "vs":
        logits = logits * (counts_K / counts_K.max()) ** config["slope"]
    if config["loss"] in ("logit_adjustment", "vs"):
        logits = logits + config["tau"] * log_prior_K
    return F.cross_entropy(logits, labels, reduction="none")


def class_weights(config: Config, counts_K: Tensor, cooldown_done: float) -> Tensor:
    """The class weights (K,), at the strength that their schedule gives."""
    if config["weights"] == "none":
        return torch.ones(CLASSES)
    if config["weights"] == "inverse":
        full_K = counts_K.pow(-config["power"])
    else:
        rest = float(config["one_less_beta"])
        full_K = rest / (1 - (1 - rest) ** counts_K)
    strength = {"always": 1.0, "deferred": float(cooldown_done > 0), "linear": cooldown_done}
    share = strength[config["schedule"]]
    return share * full_K / full_K.mean() + (1 - share)


@torch.no_grad()
def balanced_accuracy(model: torch.nn.Module, data: Data) -> float:
    """The mean recall of the classes on the validation images."""
    model.eval()
    predicted = model(data["validation_images"]).argmax(1)
    labels = data["validation_labels"]
    recalls = [(predicted[labels == k] == k).float().mean().item() for k in range(CLASSES)]
    return float(np.mean(recalls))


def load_data() -> Data:
    """The training and validation images that a search of digits-lt uses, normalised."""
    splits = load_search_splits(load_space("digits-lt").base(), DataSource())
    scaled = [torch.from_numpy(s.array()) / 255 for s in (splits.train, splits.held_out)]
    images, held_out = [
        (x - splits.preprocessing.mean[0]) / splits.preprocessing.std[0] for x in scaled
    ]
    labels = [torch.from_numpy(s.labels) for s in (splits.train, splits.held_out)]
    return {
        "images": images,
        "labels": labels[0],
        "validation_images": held_out,
        "validation_labels": labels[1],
    }


def search(trials: int) -> tune.ResultGrid:
    """Run the search, with one concurrent trial per CPU."""
    cpus = len(os.sched_getaffinity(0))
    ray.init(num_cpus=cpus, num_gpus=0, log_to_driver=False)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(train, data=load_data()), {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=cpus,
            search_alg=OptunaSearch(space=space, metric="score", mode="max"),
            scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=FIRST_RUNG, reduction_factor=ETA),
        ),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    return tuner.fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=30)
    results = search(parser.parse_args().trials)
    finished = results.get_dataframe()
    summary = {
        "errors": len(results.errors),
        "epochs": int(finished["training_iteration"].sum()),
        "best": float(finished["score"].max()),
    }
    print(json.dumps(summary, allow_nan=False))


if __name__ == "__main__":
    main()
