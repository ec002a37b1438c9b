"""DeepSMOTE, trained until it has learnt its images."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from imbtune.methods.image_generation import DeepSmote
from imbtune.training.generators.deepsmote import decode, encode, generate, train_autoencoder

QUICK = DeepSmote(latent=8, width=4, epochs=2, lr=2e-4, neighbours=5, penalty="permuted")
Tensors = tuple[Tensor, Tensor]


def few_digits() -> Tensors:
    """scikit-learn's 8×8 digits, 100 of the 0 down to 2 of the 9."""
    digits = load_digits()
    counts = [100, 65, 42, 27, 18, 11, 7, 5, 3, 2]
    rows = [np.flatnonzero(digits.target == k)[:n] for k, n in enumerate(counts)]
    index = np.concatenate(rows)
    pixels = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)[:, None]
    return torch.from_numpy(pixels), torch.from_numpy(digits.target[index].astype(np.int64))


def test_the_penalty_asks_for_another_image_of_the_class() -> None:
    """One class, dark and light images: matched keeps them apart, permuted draws them together."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).view(16, 1, 1, 1)
    images, labels = pixels.expand(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64)
    spread = {}
    for penalty in ("permuted", "matched"):
        spec = QUICK._replace(epochs=200, lr=2e-3, penalty=penalty)
        model, losses = train_autoencoder(spec, images, labels, np.random.default_rng(0))
        dark, light = decode(model, encode(model, images[:2])).float().mean(dim=(1, 2, 3))
        spread[penalty] = float(light - dark), float(losses[-1])
    assert spread["matched"][0] > spread["permuted"][0] + 30
    assert spread["matched"][1] < 0.2 < 0.35 < spread["permuted"][1]  # ½ is never to be had back


def test_digits_are_learnt_and_made_in_their_class() -> None:
    images, labels = few_digits()
    spec = DeepSmote(latent=64, width=16, epochs=60, lr=1e-3, neighbours=5, penalty="permuted")
    model, losses = train_autoencoder(spec, images, labels, np.random.default_rng(0))
    assert losses[-1] < losses[0] / 3
    assert not model.training
    made, new = generate(spec, images, labels, 10, seed=0)
    distance = torch.cdist(made.flatten(1).float(), images.flatten(1).float())
    nearest = labels[distance.argmin(dim=1)]
    assert (nearest == new).float().mean() > 0.9
    assert distance.min(dim=1).values.min() > 0  # new images, not copies
