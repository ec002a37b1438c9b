"""Presets: methods from the literature with their published settings.

They are the first trials of a search, and baselines for `imbtune train --preset`. Each method in
`_BASES` is a preset by itself and, as NAME_drw, with deferred re-weighting.
"""

from __future__ import annotations

from typing import NamedTuple

from imbtune.errors import unknown
from imbtune.registry import Value


class Preset(NamedTuple):
    """A method from the literature.

    Attributes:
        settings: replace those of a space. All slots that define a method are among them.
        help: one line for `imbtune show methods`.
        source: the paper; empty for plain cross-entropy.
    """

    settings: dict[str, Value]
    help: str
    source: str


_DRW: dict[str, Value] = {"weights": "effective_number", "weights.schedule": "deferred"}
_SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"
_MAMIX = "Cheng & Lin 2023, arXiv 2308.15457"
_LDAM = "Cao et al. 2019, arXiv 1906.07413"
_REMIX = "Chou et al. 2020, arXiv 2007.03943"
_CMO = "Park et al. 2022, arXiv 2112.00412"
_DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
_ADJUSTMENT = "Menon et al. 2021, arXiv 2007.07314"

# SMOTE oversamples minority classes with synthetic points, hence the class-balanced sampler. With
# DRW the class weights do the balancing, so the sampler is the plain one.
_BASES: dict[str, Preset] = {
    "erm": Preset({}, "plain cross-entropy", ""),
    "ldam": Preset({"loss": "ldam"}, "larger margins for rarer classes, cosine head", _LDAM),
    "smote": Preset(
        {"mix": "smote", "sampler": "class_balanced"},
        "oversampling: points between neighbours of one class",
        _SMOTE,
    ),
    "soft_smote": Preset(
        {"mix": "soft_smote", "sampler": "class_balanced"},
        "points between neighbours of any class, soft labels",
        _MAMIX,
    ),
    "mixup": Preset({"mix": "mixup"}, "mixes any two images, λ ~ U(0, 1)", "arXiv 1710.09412"),
    "remix": Preset({"mix": "remix"}, "Mixup whose label favours the rarer class", _REMIX),
    "mamix": Preset({"mix": "mamix"}, "margin-aware Mixup, ω = ¼", _MAMIX),
    "cmo": Preset({"mix": "cmo"}, "pastes a box of a rare-class image into another image", _CMO),
}

_OTHERS: dict[str, Preset] = {
    "cb": Preset(
        _DRW | {"weights.schedule": "always"},
        "class-balanced weights from the start",
        "Cui et al. 2019, arXiv 1901.05555",
    ),
    "cutmix": Preset({"mix": "cutmix"}, "pastes a box of another image", "arXiv 1905.04899"),
    "unimix": Preset(
        {"mix": "unimix", "loss": "logit_adjustment"},
        "UniMix with its Bayias loss, which is logit adjustment",
        "Xu et al. 2021, arXiv 2111.03874",
    ),
    "focal": Preset({"loss": "focal"}, "down-weights easy examples", "arXiv 1708.02002"),
    "balanced_softmax": Preset(
        {"loss": "balanced_softmax"},
        "adds log n_k to the logits while training",
        "arXiv 2007.10740",
    ),
    "logit_adjustment": Preset(
        {"loss": "logit_adjustment"}, "adds the log prior to the logits while training", _ADJUSTMENT
    ),
    "vs": Preset(
        {"loss": "vs"}, "vector scaling: factors and offsets of the logits", "arXiv 2103.01550"
    ),
    "cdt": Preset(
        {"loss": "cdt"}, "class-dependent temperatures: factors of the logits", "arXiv 2001.01385"
    ),
    "gcl": Preset(
        {"loss": "gcl", "after": "crt"},
        "Gaussian noise on the logits, then a re-trained head",
        "Li et al. 2022, arXiv 2305.11733",
    ),
    "label_aware_smoothing": Preset(
        {"loss": "label_aware_smoothing"}, "more smoothing for larger classes", "arXiv 2104.00466"
    ),
    "cumulative": Preset(
        {"weights": "inverse", "weights.schedule": "cumulative"},
        "class weights that grow through the run, as in GLMC",
        "Du et al. 2023, arXiv 2305.08661",
    ),
    "progressively_balanced": Preset(
        {"sampler": "progressively_balanced"},
        "from instance-balanced to class-balanced sampling",
        _DECOUPLING,
    ),
    "deepsmote": Preset(
        {"generate": "deepsmote"},
        "SMOTE in an autoencoder's latent space, in the cool-down",
        "arXiv 2105.02340",
    ),
    "m2m": Preset(
        {"generate": "m2m"},
        "translates frequent-class images into rare classes, in the cool-down",
        "arXiv 2004.00431",
    ),
    "sam_drw": Preset(
        _DRW | {"optimizer": "sam"},
        "sharpness-aware minimisation; deferred re-weighting",
        "arXiv 2212.13827",
    ),
    "imbsam": Preset(
        {"optimizer": "imbsam"},
        "sharpness-aware minimisation for the rare classes",
        "arXiv 2308.07815",
    ),
    "post_hoc": Preset(
        {"after": "logit_adjustment"},
        "subtracts the log prior from the logits after training",
        _ADJUSTMENT,
    ),
    "tau_norm": Preset(
        {"after": "tau_norm"},
        "rescales the head's class vectors by their norms after training",
        _DECOUPLING,
    ),
    "crt": Preset(
        {"after": "crt"},
        "re-trains the head with class-balanced sampling after training",
        _DECOUPLING,
    ),
    "lws": Preset({"after": "lws"}, "learns a factor for each logit after training", _DECOUPLING),
}


def _with_drw(name: str, base: Preset) -> tuple[str, Preset]:
    settings = {k: v for k, v in base.settings.items() if k != "sampler"} | _DRW
    if name == "erm":
        return "drw", Preset(settings, "deferred re-weighting", _LDAM)
    return f"{name}_drw", Preset(settings, f"{base.help}; deferred re-weighting", base.source)


_PLAIN: dict[str, Value] = {
    "mix": "none",
    "generate": "none",
    "loss": "ce",
    "weights": "none",
    "sampler": "instance",
    "after": "none",
}
PRESETS = {
    name: preset._replace(settings=_PLAIN | preset.settings)
    for name, preset in (
        _BASES | dict(_with_drw(name, base) for name, base in _BASES.items()) | _OTHERS
    ).items()
}


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: there is none; the message names the most similar one.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
