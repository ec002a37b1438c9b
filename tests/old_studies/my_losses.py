"""A loss of the user's, written for the layout before the move."""

from typing import Annotated

import numpy as np
from imbtune.data.datasets import Reading, datasets
from imbtune.methods.labelling import label_rules
from torch import Tensor

from imbtune.data.splits import Dataset, Images, Look
from imbtune.methods.losses import MarginSoftmax, ce, losses
from imbtune.registry import Knob


@losses.register("capped", help="balanced softmax, no class rarer than 1 in `cap`")
def capped(
    counts_K: Tensor, *, cap: Annotated[float, Knob("largest imbalance", 1, search=(2, 100))] = 10
) -> MarginSoftmax:
    return ce(counts_K)._replace(bias_K=counts_K.clamp(min=counts_K.max() / cap).log())


@label_rules.register("all_or_nothing", help="the label of the larger share")
def all_or_nothing(lam_B: Tensor, n_i_B: Tensor, n_j_B: Tensor) -> Tensor:
    return (lam_B > 0.5).float()


@datasets.register("noise", help="noise around a grey value of each class")
def noise(reading: Reading) -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    grey = 60 + 60 * labels[:, None, None, None]
    pixels = (grey + rng.normal(0, 30, (180, 1, 8, 8))).clip(0, 255).astype(np.uint8)
    held = np.arange(180) % 3 == 0
    train, test = (Images(pixels[part], labels[part]) for part in (~held, held))
    return Dataset(train, test, ("dark", "grey", "light"), Look(mean=(0.5,), std=(0.25,), pad=1))
