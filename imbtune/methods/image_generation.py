"""Images made for the rare classes, out of an autoencoder or out of the frequent classes' images.

A part only names a method and its knobs; the work is in `imbtune.training.generators.deepsmote` and
`imbtune.training.generators.m2m`, since both train a network of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from imbtune.registry import Knob, Registry

DEEPSMOTE = "Dablain et al. 2021, arXiv 2105.02340"
M2M = "Kim et al. 2020, arXiv 2004.00431"
SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"


@dataclass(frozen=True)
class GenerateOptions:
    """Knobs of every way to generate images."""

    schedule: Annotated[
        str,
        Knob(
            "when the images are shown: from the first epoch, or from the cool-down on (deferred)",
            choices=("always", "deferred"),
            source=M2M,
        ),
    ] = "deferred"
    seed: Annotated[
        int,
        Knob("draws the generated images and trains the helper network; not the training seed", 0),
    ] = 0


class DeepSmote(NamedTuple):
    """SMOTE in the latent space of an autoencoder; the fields are its knobs."""

    latent: int
    width: int
    epochs: int
    lr: float
    neighbours: int
    penalty: str


class M2m(NamedTuple):
    """Images of frequent classes translated into rare ones; the fields are its knobs."""

    share: float
    steps: int
    step_size: float
    lam: float
    gamma: float
    beta: float


generators = Registry("generate", "images made for the rare classes", GenerateOptions)


@generators.register("none", help="only real images", bare=True)
def no_generation() -> None:
    """Nothing is generated."""


@generators.register(
    "deepsmote", help="SMOTE in an autoencoder's latent space, decoded", source=DEEPSMOTE
)
def deepsmote(
    *,
    latent: Annotated[
        int, Knob("n_z, the size of the latent space", 2, 4096, search=(64, 600), scale="log")
    ] = 300,
    width: Annotated[
        int, Knob("dim_h, channels of the first layer", 1, 512, search=(16, 64), scale="log")
    ] = 64,
    epochs: Annotated[
        int, Knob("epochs of the autoencoder", 1, 10000, search=(10, 200), scale="log")
    ] = 50,
    lr: Annotated[
        float, Knob("Adam's learning rate", 1e-6, 1, search=(1e-4, 2e-3), scale="log")
    ] = 2e-4,
    neighbours: Annotated[
        int, Knob("k, the latent neighbours of the same class", 1, 32, search=(3, 15), source=SMOTE)
    ] = 5,
    penalty: Annotated[
        str,
        Knob(
            "the second loss: a latent must decode to another image of its class (permuted), or, "
            "as in the authors' code, to its own (matched)",
            choices=("permuted", "matched"),
        ),
    ] = "permuted",
) -> DeepSmote:
    """Defaults of the authors' code, but for the epochs: 200 there, 50 here.

    `latent` is 300 in their code for 28×28 grey images, 600 in the reference package for 32×32×3.
    The autoencoder sees every image twice an epoch, so 200 epochs of it would cost a trial of 200
    epochs about as much again as the training itself.
    """
    return DeepSmote(latent, width, epochs, lr, neighbours, penalty)


@generators.register("m2m", help="major-to-minor translation by gradient steps", source=M2M)
def m2m(
    *,
    share: Annotated[
        float,
        Knob("epochs of the seed network, as a share of the run's", 0.01, 2, search=(0.2, 1)),
    ] = 1.0,
    steps: Annotated[
        int, Knob("T, the gradient steps of a translation", 1, 100, search=(5, 15))
    ] = 10,
    step_size: Annotated[
        float,
        Knob(
            "η, the length of a step in pixels of [0, 1] (L2 norm over the image)",
            1e-4,
            10,
            search=(0.03, 0.3),
            scale="log",
        ),
    ] = 0.1,
    lam: Annotated[
        float,
        Knob("λ, how much the net forgets the source class", 0, 100, search=(0.01, 1), scale="log"),
    ] = 0.5,
    gamma: Annotated[
        float,
        Knob("γ, the seed network's probability that accepts an image", 0, 1, search=(0.5, 0.99)),
    ] = 0.9,
    beta: Annotated[
        float,
        Knob(
            "β: the nearer to 1, the larger a source class must be than its target",
            0,
            0.9999999,
            search=(0.9, 0.9999),
            scale="complement",
        ),
    ] = 0.999,
) -> M2m:
    """Values of the authors' script; the reference package has β = 0.9999."""
    return M2m(share, steps, step_size, lam, gamma, beta)
