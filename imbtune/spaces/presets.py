"""Known-good settings from the literature: a search's first trials, and baselines to train.

Each base method stands alone and with deferred re-weighting (`_drw`).
"""

from __future__ import annotations

from typing import NamedTuple

from imbtune.errors import unknown
from imbtune.registry import Value


class Preset(NamedTuple):
    """Settings over a space's own; each settles mixing, loss, weights and sampler."""

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

# SMOTE oversamples the minority with its synthetic points, hence the balanced sampler. With DRW
# the weights do the balancing, and the sampler is the plain one.
_BASES: dict[str, Preset] = {
    "erm": Preset({}, "cross-entropy alone", ""),
    "ldam": Preset({"loss": "ldam"}, "uneven margins, cosine head", _LDAM),
    "smote": Preset(
        {"mix": "smote", "sampler": "class_balanced"},
        "minorities oversampled along segments",
        _SMOTE,
    ),
    "soft_smote": Preset(
        {"mix": "soft_smote", "sampler": "class_balanced"},
        "neighbours of any class, soft label",
        _MAMIX,
    ),
    "mixup": Preset({"mix": "mixup"}, "any two images, λ ~ U(0, 1)", "arXiv 1710.09412"),
    "remix": Preset({"mix": "remix"}, "Mixup, the label to the minority", _REMIX),
    "mamix": Preset({"mix": "mamix"}, "margin-aware Mixup, ω = ¼", _MAMIX),
    "cmo": Preset({"mix": "cmo"}, "boxes of rare images on frequent ones", _CMO),
}

_OTHERS: dict[str, Preset] = {
    "cb": Preset(
        _DRW | {"weights.schedule": "always"},
        "class-balanced weights from the start",
        "Cui et al. 2019, arXiv 1901.05555",
    ),
    "cutmix": Preset({"mix": "cutmix"}, "a box of another image", "arXiv 1905.04899"),
    "unimix": Preset(
        {"mix": "unimix", "loss": "logit_adjustment"},
        "UniMix with its Bayias loss, which is logit adjustment",
        "Xu et al. 2021, arXiv 2111.03874",
    ),
    "focal": Preset({"loss": "focal"}, "looks away from easy samples", "arXiv 1708.02002"),
    "balanced_softmax": Preset(
        {"loss": "balanced_softmax"}, "logits + log n_k", "arXiv 2007.10740"
    ),
    "logit_adjustment": Preset(
        {"loss": "logit_adjustment"}, "logits + log prior while training", _ADJUSTMENT
    ),
    "vs": Preset({"loss": "vs"}, "logit factors and adjustment", "arXiv 2103.01550"),
    "cdt": Preset({"loss": "cdt"}, "logit factors", "arXiv 2001.01385"),
    "gcl": Preset(
        {"loss": "gcl", "after": "crt"},
        "clouded logits, then a balanced head",
        "Li et al. 2022, arXiv 2305.11733",
    ),
    "label_aware_smoothing": Preset(
        {"loss": "label_aware_smoothing"}, "more smoothing for larger classes", "arXiv 2104.00466"
    ),
    "cumulative": Preset(
        {"weights": "inverse", "weights.schedule": "cumulative"},
        "weights growing through the run, as GLMC's",
        "Du et al. 2023, arXiv 2305.08661",
    ),
    "progressively_balanced": Preset(
        {"sampler": "progressively_balanced"}, "instance to balanced sampling", _DECOUPLING
    ),
    "deepsmote": Preset(
        {"generate": "deepsmote"}, "SMOTE in a latent space, from the cool-down", "arXiv 2105.02340"
    ),
    "m2m": Preset(
        {"generate": "m2m"},
        "frequent images made rare ones, from the cool-down",
        "arXiv 2004.00431",
    ),
    "sam_drw": Preset(
        _DRW | {"optimizer": "sam"}, "a flat minimum; deferred re-weighting", "arXiv 2212.13827"
    ),
    "imbsam": Preset({"optimizer": "imbsam"}, "flat for the rare classes", "arXiv 2308.07815"),
    "post_hoc": Preset(
        {"after": "logit_adjustment"}, "logits - log prior after training", _ADJUSTMENT
    ),
    "tau_norm": Preset({"after": "tau_norm"}, "class vectors of one length", _DECOUPLING),
    "crt": Preset({"after": "crt"}, "the head trained again", _DECOUPLING),
    "lws": Preset({"after": "lws"}, "logit factors learnt", _DECOUPLING),
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
    """The preset, or ConfigError with the nearest name."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
