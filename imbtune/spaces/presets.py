"""Presets: methods from the literature with their published settings.

They are the first trials of a search, and baselines for `imbtune train --preset`. Each method in
`_BASES` is a preset by itself and, as NAME_drw, with deferred re-weighting.

A preset has what belongs to the method: its parts, their knobs, the divisor of a weighted loss,
and a batch size or a drop of the learning rate that differs from the usual 128 and 0.01. Network,
epochs, warm-up and the position of the drops belong to the space. Where imbtune differs from the
source on purpose, the help says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from imbtune.errors import unknown
from imbtune.registry import Value


@dataclass(frozen=True)
class Preset:
    """A method from the literature.

    Attributes:
        settings: replace those of a space. All slots that define a method are among them.
        help: one line for `imbtune show methods`.
        source: the paper; empty for plain cross-entropy.
        by_data: settings that the source has for one data set only, by the name of the data set.
        differs: what imbtune does otherwise than the source's code; empty if nothing.
    """

    settings: Mapping[str, Value]
    help: str
    source: str
    by_data: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    differs: str = ""

    @property
    def about(self) -> str:
        """The help, with a sentence on what imbtune does otherwise."""
        return f"{self.help}. {self.differs}" if self.differs else self.help

    def on(self, data: str) -> dict[str, Value]:
        """The settings for the data set `data`."""
        return {**self.settings, **self.by_data.get(data, {})}


_DRW: dict[str, Value] = {
    "weights": "effective_number",
    "weights.schedule": "deferred",
    "weights.reduction": "weighted_mean",
}
# The reference package (ntucllab/imbalanced-DL) averages weighted losses over the batch, except
# for LDAM-DRW. CMO's code calls torch's weighted cross-entropy once for each of the two labels.
_BY_BATCH: dict[str, Value] = {"weights.reduction": "mean"}
_BY_LABEL: dict[str, Value] = {"weights.reduction": "weighted_mean_per_label"}
# Differences from the sources' code; docs/presets.md has them, too
_ONE_PASS = (
    "The authors' code also passes the unmixed batch through the network, which changes the "
    "batch-norm statistics; imbtune does not."
)
_NO_TRAINER = "The authors' package has no code for it, so the details are imbtune's."
_SMOTE = "Chawla et al. 2002, doi 10.1613/jair.953"
_MAMIX = "Cheng & Lin 2023, arXiv 2308.15457"
_LDAM = "Cao et al. 2019, arXiv 1906.07413"
_REMIX = "Chou et al. 2020, arXiv 2007.03943"
_CMO = "Park et al. 2022, arXiv 2112.00412"
_MISLAS = "Zhong et al. 2021, arXiv 2104.00466"
_DECOUPLING = "Kang et al. 2020, arXiv 1910.09217"
_ADJUSTMENT = "Menon et al. 2021, arXiv 2007.07314"

# SMOTE adds synthetic points until all classes are as large as the largest. So classes are drawn
# equally often, and an image of class k is synthetic with probability 1 - n_k/n_max, with a λ of
# its own. With DRW the class weights do the balancing: every image is mixed, and drawn once.
_OVERSAMPLING: dict[str, Value] = {
    "sampler": "class_balanced",
    "mix.by_class": "oversampling",
    "mix.draw": "sample",
}
# CMO's code mixes half of the batches, from the fifth epoch of 200 to the fourth last one. The last
# three epochs are 3/40 of the cool-down.
_CMO_EPOCHS: dict[str, Value] = {
    "mix.wait_share": 0.02,
    "mix.late": "stop",
    "mix.stop_share": 0.075,
}
_BASES: dict[str, Preset] = {
    "erm": Preset({}, "plain cross-entropy", ""),
    "ldam": Preset({"loss": "ldam"}, "larger margins for rarer classes, cosine head", _LDAM),
    "smote": Preset(
        {"mix": "smote", **_OVERSAMPLING},
        "oversampling: adds points between neighbours of one class",
        _SMOTE,
        differs="New points are drawn for every batch; the source adds points once, at first.",
    ),
    "soft_smote": Preset(
        {"mix": "soft_smote", **_OVERSAMPLING},
        "SMOTE between neighbours of any class, with soft labels",
        _MAMIX,
        differs=_NO_TRAINER,
    ),
    "mixup": Preset(
        {"mix": "mixup"},
        "mixes any two images, λ ~ U(0, 1)",
        "arXiv 1710.09412",
        differs=_ONE_PASS,
    ),
    "remix": Preset(
        {"mix": "remix"}, "Mixup whose label favours the rarer class", _REMIX, differs=_ONE_PASS
    ),
    "mamix": Preset({"mix": "mamix"}, "margin-aware Mixup, ω = ¼", _MAMIX, differs=_ONE_PASS),
    "cmo": Preset(
        {"mix": "cmo", **_CMO_EPOCHS}, "pastes a box of a rare-class image into another image", _CMO
    ),
}

_OTHERS: dict[str, Preset] = {
    "cb": Preset(
        _DRW | _BY_BATCH | {"weights.schedule": "always"},
        "class-balanced weights from the start",
        "Cui et al. 2019, arXiv 1901.05555",
    ),
    "cutmix": Preset({"mix": "cutmix"}, "pastes a box of another image", "arXiv 1905.04899"),
    "unimix": Preset(
        {"mix": "unimix", "loss": "logit_adjustment", "batch_size": 64},
        "UniMix with its Bayias loss, which is logit adjustment",
        "Xu et al. 2021, arXiv 2111.03874",
        {"cifar100": {"mix.power": 0.1}},
        "Partners are drawn from all training images; the authors' code draws them from the batch.",
    ),
    "focal": Preset(
        {"loss": "focal"},
        "down-weights easy examples; γ = 1 as in LDAM-DRW's code",
        "Lin et al. 2017, arXiv 1708.02002",
        differs="The paper recommends γ = 2, for detection.",
    ),
    "balanced_softmax": Preset(
        {"loss": "balanced_softmax"},
        "adds log n_k to the logits while training",
        "arXiv 2007.10740",
    ),
    "logit_adjustment": Preset(
        {"loss": "logit_adjustment"}, "adds the log prior to the logits while training", _ADJUSTMENT
    ),
    "vs": Preset(
        {"loss": "vs"},
        "vector scaling: factors and offsets of the logits",
        "Kini et al. 2021, arXiv 2103.01550",
        {"cifar10": {"loss.slope": 0.2, "loss.tau": 1.2}},
    ),
    "cdt": Preset(
        {"loss": "cdt"}, "class-dependent temperatures: factors of the logits", "arXiv 2001.01385"
    ),
    "gcl": Preset(
        {
            "loss": "gcl",
            "mix": "mixup",
            "after": "gcl",
            "batch_size": 64,
            "schedule.drop": 0.1,
        },
        "Mixup with Gaussian noise on the logits, then the head once more",
        "Li et al. 2022, arXiv 2305.11733",
        differs="The noise is drawn once per image; the authors' code draws it for each of its two "
        "labels.",
    ),
    "mislas": Preset(
        {"mix": "mixup", "after": "mislas", "schedule.drop": 0.1},
        "Mixup, then the head with label-aware smoothing",
        _MISLAS,
        {
            "cifar100": {
                "after.head_lr": 0.2,
                "after.smooth_head": 0.4,
                "after.smooth_tail": 0.1,
                "after.shift_bn": True,
            }
        },
    ),
    "label_aware_smoothing": Preset(
        {"loss": "label_aware_smoothing"},
        "MiSLAS's loss for the whole run; MiSLAS itself has it in a second stage: mislas",
        _MISLAS,
        {"cifar100": {"loss.smooth_head": 0.4, "loss.smooth_tail": 0.1}},
        "It has no second stage, which MiSLAS has.",
    ),
    "cumulative": Preset(
        {
            "weights": "inverse",
            "weights.power": 1.2,
            "weights.schedule": "cumulative",
            "batch_size": 64,
            **_BY_BATCH,
        },
        "GLMC's growing class weights alone: no second head, mixed views or contrastive loss",
        "Du et al. 2023, arXiv 2305.08661",
        differs="The weights grow with every step; the authors' with every epoch.",
    ),
    "progressively_balanced": Preset(
        {"sampler": "progressively_balanced"},
        "from instance-balanced to class-balanced sampling",
        _DECOUPLING,
    ),
    "deepsmote": Preset(
        {
            "generate": "deepsmote",
            "generate.schedule": "always",
            "generate.latent": 600,
            "generate.epochs": 200,
            "generate.penalty": "matched",
        },
        "SMOTE in an autoencoder's latent space; unlike the authors, shifts and mirrors all images",
        "Dablain et al. 2021, arXiv 2105.02340",
        differs="The images are used from the first epoch; the reference package's default is 160.",
    ),
    "m2m": Preset(
        {"generate": "m2m"},
        "translates frequent-class images into rare classes, in the cool-down",
        "Kim et al. 2020, arXiv 2004.00431",
        # the reference package's 300 epochs, of which 250 are trained before
        {data: {"generate.start": 2 / 3} for data in ("cifar100", "tiny_imagenet")},
        "The second network is trained on the training images alone.",
    ),
    "sam_drw": Preset(
        _DRW | {"optimizer": "sam", "optimizer.rho": 0.5},
        "sharpness-aware minimisation; deferred re-weighting",
        "Rangwani et al. 2022, arXiv 2212.13827",
        {"cifar100": {"optimizer.rho": 0.8}},
        "The second forward pass leaves batch norm's statistics alone; the authors' code updates "
        "them twice.",
    ),
    "imbsam": Preset(
        {"optimizer": "imbsam", "optimizer.below": 20, "batch_size": 64},
        "sharpness-aware minimisation for the rare classes",
        "arXiv 2308.07815",
        differs="The authors' code also doubles the loss of the rare classes, which their paper "
        "does not, and updates batch norm's statistics twice.",
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
    """The preset NAME_drw: the method with deferred re-weighting, and without oversampling."""
    settings = {k: v for k, v in base.settings.items() if k not in _OVERSAMPLING} | _DRW
    if name == "erm":
        return "drw", Preset(settings, "deferred re-weighting", _LDAM)
    if name == "cmo":
        settings |= _BY_LABEL
    elif name != "ldam":
        settings |= _BY_BATCH
    help = f"{base.help.removeprefix('oversampling: adds ')}; deferred re-weighting"
    differs = "" if base.differs.startswith("New points") else base.differs
    return f"{name}_drw", Preset(settings, help, base.source, differs=differs)


_PLAIN: dict[str, Value] = {
    "mix": "none",
    "generate": "none",
    "loss": "ce",
    "weights": "none",
    "sampler": "instance",
    "after": "none",
}
PRESETS = {
    name: replace(preset, settings={**_PLAIN, **preset.settings})
    for name, preset in (
        _BASES | dict(_with_drw(name, base) for name, base in _BASES.items()) | _OTHERS
    ).items()
}


METHOD_SLOTS = tuple(_PLAIN)  # the slots that define a method
# Knobs of these slots that belong to the setting: where in the schedule a method begins
SETTING_KNOBS = ("weights.start", "generate.start")


def defines_method(key: str) -> bool:
    """Whether a setting (`mix`, `mix.omega`) is a method's, not one of data or schedule."""
    return key.partition(".")[0] in METHOD_SLOTS and key not in SETTING_KNOBS


def find_preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: there is none; the message names the most similar one.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
