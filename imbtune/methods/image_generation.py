"""Image generation: new images for the rare classes.

DeepSMOTE makes them with an autoencoder, M2m out of images of the frequent classes. Both train a
network of their own. The parts here only hold the knobs; `imbtune.training.generators` has the
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from imbtune.limits import SEED
from imbtune.registry import Knob, Registry

DEEPSMOTE = "Dablain et al. 2021, arXiv 2105.02340"
M2M = "Kim et al. 2020, arXiv 2004.00431"
SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"


@dataclass(frozen=True)
class GenerateOptions:
    """The knobs of every generator."""

    schedule: Annotated[
        str,
        Knob(
            "when the images are used: from the first epoch (always), or from the start of the "
            "cool-down (deferred)",
            choices=("always", "deferred"),
            source=M2M,
            cooldown_only_choices=("deferred",),
        ),
    ] = "deferred"
    start: Annotated[
        float,
        Knob(
            "share of the cool-down after which deferred images are used",
            0,
            0.99,
            cooldown_only=True,
        ),
    ] = 0.0
    seed: Annotated[
        int,
        Knob(
            "seed of the generated images and of the helper network; not the training seed", 0, SEED
        ),
    ] = 0


class DeepSmote(NamedTuple):
    """The knobs of DeepSMOTE (:func:`deepsmote` describes them)."""

    latent: int
    width: int
    epochs: int
    lr: float
    neighbours: int
    penalty: str


class M2m(NamedTuple):
    """The knobs of M2m (:func:`m2m` describes them)."""

    share: float
    steps: int
    step_size: float
    lam: float
    gamma: float
    beta: float


generators = Registry("generate", "new images for the rare classes", GenerateOptions)


@generators.register("none", help="only real images", bare=True)
def no_generation() -> None:
    """None: no images are generated."""


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
            "the second loss: a latent code must decode to another image of its class (permuted, "
            "as in the paper) or to its own image (matched, as in the authors' code)",
            choices=("permuted", "matched"),
        ),
    ] = "permuted",
) -> DeepSmote:
    """x̃ = decode(z_i + u·(z_j - z_i)): z_j one of the k nearest codes of z_i's class, u ~ U(0, 1).

    Every class gets as many images as the largest class has. The defaults are those of the
    authors' code except for the epochs: 200 there, 50 here, since one epoch of the autoencoder
    passes every image twice, so 200 would cost about as much as a training run of 200 epochs.
    `latent` is 300 in the authors' code for 28×28 grey images, and 600 in the reference package
    for 32×32 colour images.
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
            "η, the L2 length of a step, for an image with pixels in [0, 1]",
            1e-4,
            10,
            search=(0.03, 0.3),
            scale="log",
        ),
    ] = 0.1,
    lam: Annotated[
        float,
        Knob(
            "λ, weight of the term that lowers the source class's logit",
            0,
            100,
            search=(0.01, 1),
            scale="log",
        ),
    ] = 0.5,
    gamma: Annotated[
        float,
        Knob(
            "γ, the lowest probability of the target class, by the seed network, at which an image "
            "is accepted",
            0,
            1,
            search=(0.5, 0.99),
        ),
    ] = 0.9,
    beta: Annotated[
        float,
        Knob(
            "β: the closer to 1, the larger a source class must be than its target class",
            0,
            0.9999999,
            search=(0.9, 0.9999),
            scale="complement",
        ),
    ] = 0.999,
) -> M2m:
    """Gradient steps turn an image of a frequent class into one of a rare class.

    x ← clip(x - η·∇/‖∇‖), T times, with ∇ the gradient of CE(g(x), k) + λ·f(x)_i: g the seed
    network, f the network in training, i the source class and k the target class. The defaults
    are those of the authors' script; the reference package has β = 0.9999.
    """
    return M2m(share, steps, step_size, lam, gamma, beta)
