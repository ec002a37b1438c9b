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
}


def _with_drw(name: str, base: Preset) -> tuple[str, Preset]:
    settings = {k: v for k, v in base.settings.items() if k != "sampler"} | _DRW
    if name == "erm":
        return "drw", Preset(settings, "deferred re-weighting", _LDAM)
    return f"{name}_drw", Preset(settings, f"{base.help}; deferred re-weighting", base.source)


_PLAIN: dict[str, Value] = {"mix": "none", "loss": "ce", "weights": "none", "sampler": "instance"}
_METHODS: dict[str, Preset] = (
    _BASES
    | dict(_with_drw(name, base) for name, base in _BASES.items())
    | {
        "cb": Preset(
            _DRW | {"weights.schedule": "always"},
            "class-balanced weights from the start",
            "Cui et al. 2019, arXiv 1901.05555",
        )
    }
)
PRESETS = {name: p._replace(settings=_PLAIN | p.settings) for name, p in _METHODS.items()}


def find_preset(name: str) -> Preset:
    """The preset, or ConfigError with the nearest name."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
