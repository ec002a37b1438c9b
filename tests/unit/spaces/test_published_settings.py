"""Every preset and every published space against a literal transcription of its source.

Each entry of `SOURCES` says where the values come from: a paper, or the authors' script with its
command line. A preset without an entry fails, so a new one needs its source's settings here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from imbtune.models.networks import build_model
from imbtune.registry import Value
from imbtune.spaces.presets import PRESETS, find_preset
from imbtune.spaces.space_file import load_space
from imbtune.training.phases import whole_run

PLAIN: dict[str, Value] = {
    "mix": "none",
    "generate": "none",
    "loss": "ce",
    "weights": "none",
    "sampler": "instance",
    "after": "none",
}
DRW: dict[str, Value] = {
    "weights": "effective_number",
    "weights.beta": 0.9999,
    "weights.schedule": "deferred",
}
MIXED: dict[str, Value] = {"mix.alpha": 1.0, "mix.draw": "batch", "mix.probability": 1.0}


@dataclass(frozen=True)
class Source:
    """A method's settings, beside those of plain cross-entropy.

    Attributes:
        settings: for every data set; slots that are not named are those of cross-entropy.
        by_data: for one data set only.
    """

    settings: dict[str, Value]
    by_data: dict[str, dict[str, Value]] = field(default_factory=dict)


SOURCES: dict[str, Source] = {
    # ntucllab/imbalanced-DL: weighted losses are `CrossEntropyLoss(reduction="none")(…).mean()`
    "erm": Source({}),
    "cb": Source({**DRW, "weights.schedule": "always", "weights.reduction": "mean"}),
    "mixup_drw": Source({"mix": "mixup", **MIXED, **DRW, "weights.reduction": "mean"}),
    "remix_drw": Source(
        {
            "mix": "remix",
            "mix.kappa": 3.0,
            "mix.tau": 0.5,
            **MIXED,
            **DRW,
            "weights.reduction": "mean",
        }
    ),
    "mamix_drw": Source(
        {"mix": "mamix", "mix.omega": 0.25, **MIXED, **DRW, "weights.reduction": "mean"}
    ),
    # kaidic/LDAM-DRW: `CrossEntropyLoss(weight=…)` and `LDAMLoss(max_m=0.5, s=30, weight=…)`
    "drw": Source({**DRW, "weights.reduction": "weighted_mean"}),
    "ldam": Source({"loss": "ldam", "loss.margin": 0.5, "loss.scale": 30.0}),
    "ldam_drw": Source(
        {
            "loss": "ldam",
            "loss.margin": 0.5,
            "loss.scale": 30.0,
            **DRW,
            "weights.reduction": "weighted_mean",
        }
    ),
    "focal": Source({"loss": "focal", "loss.gamma": 1.0}),
    # naver-ai/cmo cifar_train.py: --mixup_prob 0.5 --beta 1 --weighted_alpha 1 --start_data_aug 3
    # --end_data_aug 3 of 200 epochs, each label's side its own `CrossEntropyLoss(weight=…)`
    "cmo_drw": Source(
        {
            "mix": "cmo",
            "mix.alpha": 1.0,
            "mix.power": 1.0,
            "mix.draw": "batch",
            "mix.probability": 0.5,
            "mix.early": "wait",
            "mix.wait_share": 4 / 200,
            "mix.late": "stop",
            "mix.stop_share": 3 / 40,
            **DRW,
            "weights.reduction": "weighted_mean_per_label",
        }
    ),
    # XuZhengzhuo/Prior-LT config/cifar10_100.py and cifar100_100.py: `unimix_tau` is -0.5 and -0.1
    "unimix": Source(
        {
            "mix": "unimix",
            "mix.alpha": 0.8,
            "mix.power": 0.5,
            "mix.draw": "sample",
            "loss": "logit_adjustment",
            "loss.tau": 1.0,
            "batch_size": 64,
        },
        {"cifar100": {"mix.power": 0.1}},
    ),
    # Keke921/GCLLoss cifar_train_backbone.py and cifar_train_classifier.py
    "gcl": Source(
        {
            "mix": "mixup",
            **MIXED,
            "loss": "gcl",
            "loss.scale": 30.0,
            "loss.noise": 0.5,
            "batch_size": 64,
            "schedule.drop": 0.1,
            "after": "gcl",
            "after.share": 30 / 200,
            "after.lr": 0.1 * 0.1 * 0.1 * 2,
            "after.stage_scale": 20.0,
            "after.margin": 0.1,
            "after.noise": 0.5,
            "after.gamma": 1.0,
        }
    ),
    # dvlab-research/MiSLAS config/cifar10*/cifar100*_imb001_stage1_mixup and stage2_mislas
    "mislas": Source(
        {
            "mix": "mixup",
            **MIXED,
            "schedule.drop": 0.1,
            "after": "mislas",
            "after.share": 10 / 200,
            "after.lr": 0.1,
            "after.head_lr": 0.5,
            "after.smooth_head": 0.3,
            "after.smooth_tail": 0.0,
            "after.shift_bn": False,
        },
        {
            "cifar100": {
                "after.head_lr": 0.2,
                "after.smooth_head": 0.4,
                "after.smooth_tail": 0.1,
                "after.shift_bn": True,
            }
        },
    ),
    "label_aware_smoothing": Source(
        {
            "loss": "label_aware_smoothing",
            "loss.smooth_head": 0.3,
            "loss.smooth_tail": 0.0,
            "loss.curve": "concave",
        },
        {"cifar100": {"loss.smooth_head": 0.4, "loss.smooth_tail": 0.1}},
    ),
    # ynu-yangpeng/GLMC README: --label_weighting 1.2 -b 64; 1/n_k^1.2, averaged over the batch
    "cumulative": Source(
        {
            "weights": "inverse",
            "weights.power": 1.2,
            "batch_size": 64,
            "weights.schedule": "cumulative",
            "weights.reduction": "mean",
        }
    ),
    # val-iisc/Saddle-LongTail run.sh: CE + DRW with --rho 0.5 on CIFAR-10 and 0.8 on CIFAR-100
    "sam_drw": Source(
        {
            "optimizer": "sam",
            "optimizer.rho": 0.5,
            **DRW,
            "weights.reduction": "weighted_mean",
        },
        {"cifar100": {"optimizer.rho": 0.8}},
    ),
    # cool-xuan/Imbalanced_SAM scripts/train.py: --eta 20 --rho 0.05 --batch_size 64
    "imbsam": Source(
        {
            "optimizer": "imbsam",
            "optimizer.below": 20,
            "optimizer.rho": 0.05,
            "batch_size": 64,
        }
    ),
    # orparask/VS-Loss README: --gamma 0.2 --tau 1.2 on CIFAR-10-LT; defaults of train.py elsewhere
    "vs": Source(
        {"loss": "vs", "loss.slope": 0.3, "loss.tau": 1.0},
        {"cifar10": {"loss.slope": 0.2, "loss.tau": 1.2}},
    ),
    "cdt": Source({"loss": "cdt", "loss.slope": 0.3}),
    # alinlab/M2m run.sh: --beta 0.999 --lam 0.5 --gamma 0.9 --step_size 0.1 --attack_iter 10
    "m2m": Source(
        {
            "generate": "m2m",
            "generate.schedule": "deferred",
            "generate.beta": 0.999,
            "generate.lam": 0.5,
            "generate.gamma": 0.9,
            "generate.step_size": 0.1,
            "generate.steps": 10,
        },
        # warm: 250 of 300 in config_cifar100.yaml and config_tiny200.yaml of imbalanced-DL
        {data: {"generate.start": 2 / 3} for data in ("cifar100", "tiny_imagenet")},
    ),
    # deepsmote/config/config.py of ntucllab/imbalanced-DL; the classifier of Dablain et al. has
    # balanced data from its first epoch
    "deepsmote": Source(
        {
            "generate": "deepsmote",
            "generate.schedule": "always",
            "generate.latent": 600,
            "generate.width": 64,
            "generate.epochs": 200,
            "generate.lr": 2e-4,
            "generate.penalty": "matched",
        }
    ),
    # Chawla et al. 2002: until all classes are as large as the largest, one λ for each point
    "smote": Source(
        {
            "mix": "smote",
            "mix.alpha": 1.0,
            "mix.draw": "sample",
            "mix.by_class": "oversampling",
            "sampler": "class_balanced",
        }
    ),
    # Zhang et al. 2018, Chou et al. 2020, Cheng & Lin 2023 and Yun et al. 2019, without DRW
    "mixup": Source({"mix": "mixup", **MIXED}),
    "remix": Source({"mix": "remix", "mix.kappa": 3.0, "mix.tau": 0.5, **MIXED}),
    "mamix": Source({"mix": "mamix", "mix.omega": 0.25, **MIXED}),
    "cutmix": Source({"mix": "cutmix", **MIXED}),
    "cmo": Source({"mix": "cmo", "mix.probability": 0.5, "mix.wait_share": 4 / 200}),
    "balanced_softmax": Source({"loss": "balanced_softmax"}),
    "logit_adjustment": Source({"loss": "logit_adjustment", "loss.tau": 1.0}),
    "post_hoc": Source({"after": "logit_adjustment", "after.tau": 1.0}),
    # Kang et al. 2020
    "progressively_balanced": Source({"sampler": "progressively_balanced"}),
    "tau_norm": Source({"after": "tau_norm"}),
    "crt": Source({"after": "crt"}),
    "lws": Source({"after": "lws"}),
    # Of Cheng & Lin 2023, whose package has no trainer for them
    "soft_smote": Source(
        {
            "mix": "soft_smote",
            "mix.draw": "sample",
            "mix.by_class": "oversampling",
            "sampler": "class_balanced",
        }
    ),
    "smote_drw": Source({"mix": "smote", **DRW, "weights.reduction": "mean"}),
    "soft_smote_drw": Source({"mix": "soft_smote", **DRW, "weights.reduction": "mean"}),
}
SPACE_OF = {"cifar10": "cifar10-lt", "cifar100": "cifar100-lt"}


@pytest.mark.parametrize("data", SPACE_OF)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_sources_settings(name: str, data: str) -> None:
    source = SOURCES[name]
    expected = {**PLAIN, **source.settings, **source.by_data.get(data, {})}
    flat = load_space(SPACE_OF[data]).preset(name).flat()
    assert {key: flat[key] for key in expected} == pytest.approx(expected)


def test_no_preset_has_settings_for_a_data_set_that_its_source_does_not_have() -> None:
    for name in PRESETS:
        assert find_preset(name).by_data.keys() == SOURCES[name].by_data.keys(), name


@dataclass(frozen=True)
class Benchmark:
    """A published setting: example/config/*.yaml and trainer.py of ntucllab/imbalanced-DL."""

    images: int
    model: str
    epochs: int
    drops: tuple[int, int]
    drop: float
    reweighting: int
    pad: int


BENCHMARKS = {
    "cifar10-lt": Benchmark(12406, "resnet32", 200, (160, 180), 0.01, 160, 4),
    "cifar100-lt": Benchmark(10847, "resnet32", 300, (150, 250), 0.1, 250, 4),
    "cinic10-lt": Benchmark(22332, "resnet18_small", 200, (160, 180), 0.01, 160, 4),
    "svhn-lt": Benchmark(2478, "resnet32", 200, (160, 180), 0.01, 160, 4),
    "tiny_imagenet-lt": Benchmark(21549, "resnet18_small", 300, (150, 250), 0.1, 250, 8),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_published_space_is_the_published_setting(name: str) -> None:
    published, space = BENCHMARKS[name], load_space(name)
    config = space.preset("mamix_drw")
    assert f"{published.images:,} images" in space.about
    assert config.model.name == published.model
    assert config.epochs == published.epochs
    assert config.batch_size == 128
    optimizer = {"lr": 0.1, "momentum": 0.9, "weight_decay": 2e-4, "nesterov": False}
    assert config.optimizer.name == "sgd" and config.optimizer.knobs == optimizer
    assert config.data.knobs["subset"] == "standard" and config.data.knobs["ratio"] == 100
    assert config.data.knobs["augment"] == "standard"

    phases = config.schedule.shared
    for epoch in whole_run(config.epochs, phases):
        decays = {config.schedule.make(done) for done in epoch.cooldown_done(7)}
        passed = sum(epoch.index >= drop for drop in published.drops)
        assert decays == {published.drop**passed}, epoch.index
        warm = epoch.warmup_done(7, by_epoch=True).tolist()
        assert warm == pytest.approx([min(1.0, (epoch.index + 1) / 5)] * 7), epoch.index
        starts = config.weights.shared.start
        acts = {done > starts for done in epoch.cooldown_done(7)}
        assert acts == {epoch.index >= published.reweighting}, epoch.index
    assert phases.warmup_by == "epoch"


@pytest.mark.parametrize(
    ("head", "parameters"), [("linear", 464_144), ("linear_bias", 464_154), ("cosine", 464_144)]
)
def test_resnet32_has_the_parameters_of_both_packages(head: str, parameters: int) -> None:
    """464,144 in imbalanced-DL, whose head has no bias; 464,154 in LDAM-DRW."""
    model = build_model("resnet32", {"head": head}, "linear", 3, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_resnet18_small_starts_from_torchs_initialisation() -> None:
    """As kuangliu's, which the package uses: uniform of variance 1/(3·fan_in), .024 in layer 2."""
    model = build_model("resnet18_small", {"head": "linear"}, "linear", 3, 10)
    weight = model.backbone.get_parameter("layer2.0.conv2.weight")
    assert weight.std().item() == pytest.approx((1 / (3 * 128 * 9)) ** 0.5, rel=0.02)
    assert weight.shape == (128, 128, 3, 3)
