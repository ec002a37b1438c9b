"""Presets: complete, sourced, and with the values of their papers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.config.slots import SLOTS
from imbtune.config.train_config import TrainConfig, active
from imbtune.errors import ConfigError
from imbtune.registry import Value
from imbtune.spaces.presets import PRESETS, find_preset

every_preset = pytest.mark.parametrize("name", PRESETS)

# The strategies of the reference package, and the values that it has or its papers have
STRATEGIES: dict[str, tuple[str, dict[str, Value]]] = {
    "ERM": ("erm", {"loss": "ce", "mix": "none", "weights": "none"}),
    "Reweight_CB": (
        "cb",
        {"weights": "effective_number", "weights.beta": 0.9999, "weights.schedule": "always"},
    ),
    "DRW": ("drw", {"mix": "none", "loss": "ce"}),
    "LDAM_DRW": ("ldam_drw", {"loss": "ldam", "loss.margin": 0.5, "loss.scale": 30.0}),
    "Mixup_DRW": ("mixup_drw", {"mix": "mixup", "mix.alpha": 1.0, "mix.draw": "batch"}),
    "Remix_DRW": ("remix_drw", {"mix": "remix", "mix.kappa": 3.0, "mix.tau": 0.5}),
    "MAMix_DRW": ("mamix_drw", {"mix": "mamix", "mix.omega": 0.25, "mix.alpha": 1.0}),
    "M2m": ("m2m", {"generate": "m2m", "generate.steps": 10, "generate.gamma": 0.9}),
    "DeepSMOTE": ("deepsmote", {"generate": "deepsmote", "generate.neighbours": 5}),
}


@every_preset
def test_a_preset_is_a_valid_configuration_and_comes_out_as_it_says(name: str) -> None:
    preset = PRESETS[name]
    flat = TrainConfig.from_settings(preset.settings).flat()
    assert {key: flat[key] for key in preset.settings} == preset.settings
    assert TrainConfig.from_settings(flat).flat() == flat


@every_preset
def test_a_preset_settles_whatever_is_a_method(name: str) -> None:
    """A space's own choices must not leak into a baseline."""
    settled = {"mix", "generate", "loss", "weights", "sampler", "after"}
    assert settled <= set(PRESETS[name].settings)


@every_preset
def test_a_preset_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    preset = find_preset(name)
    assert preset.help and "\n" not in preset.help
    assert ("arXiv" in preset.source or "doi" in preset.source) == (name != "erm")


def test_presets_are_all_different() -> None:
    configs = [TrainConfig.from_settings(preset.settings).yaml() for preset in PRESETS.values()]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize("name", [n for n in PRESETS if n == "drw" or n.endswith("_drw")])
def test_deferred_re_weighting_is_the_effective_number_from_the_cooldown_on(name: str) -> None:
    config = TrainConfig.from_settings(PRESETS[name].settings)
    assert config.weights.name == "effective_number"
    assert config.weights.knobs["beta"] == 0.9999
    assert config.weights.shared.schedule == "deferred"
    assert config.sampler.name == "instance"  # the weights do the balancing
    plain = PRESETS.get("erm" if name == "drw" else name.removesuffix("_drw"))
    if plain:
        same = ("mix", "generate", "loss", "after")
        assert {slot: plain.settings[slot] for slot in same} == {
            slot: getattr(config, slot).name for slot in same
        }


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_papers_strategies_are_there_with_its_values(strategy: str) -> None:
    name, values = STRATEGIES[strategy]
    flat: dict[str, Any] = TrainConfig.from_settings(PRESETS[name].settings).flat()
    assert {key: flat[key] for key in values} == values


def test_the_papers_oversampling_without_a_trainer_is_there_too() -> None:
    """SMOTE and soft SMOTE: balanced sampling makes them oversample."""
    for name in ("smote", "soft_smote"):
        assert PRESETS[name].settings["mix"] == name
        assert PRESETS[name].settings["sampler"] == "class_balanced"
        assert PRESETS[f"{name}_drw"].settings["mix"] == name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cmo", {"mix.probability": 0.5, "mix.power": 1.0, "mix.early": "wait"}),
        ("cmo_drw", {"mix.stop_share": 0.075, "weights.reduction": "weighted_mean_per_label"}),
        ("unimix", {"mix.alpha": 0.8, "mix.power": 0.5, "loss": "logit_adjustment"}),
        ("gcl", {"loss.noise": 0.5, "loss.scale": 30.0, "mix": "mixup", "after.margin": 0.1}),
        ("label_aware_smoothing", {"loss.smooth_head": 0.3, "loss.smooth_tail": 0.0}),
        ("logit_adjustment", {"loss.tau": 1.0, "after": "none"}),
        ("post_hoc", {"loss": "ce", "after.tau": 1.0}),
        ("tau_norm", {"loss": "ce", "after": "tau_norm"}),
        ("cumulative", {"weights.schedule": "cumulative", "weights.reduction": "mean"}),
        ("progressively_balanced", {"sampler": "progressively_balanced", "weights": "none"}),
        ("sam_drw", {"optimizer": "sam", "optimizer.rho": 0.5}),
        ("imbsam", {"optimizer": "imbsam", "optimizer.below": 20}),
        ("crt", {"after": "crt", "loss": "ce"}),
        ("lws", {"after": "lws", "loss": "ce"}),
        ("focal", {"loss.gamma": 1.0}),
        ("vs", {"loss.slope": 0.3, "loss.tau": 1.0}),
        ("mislas", {"mix": "mixup", "loss": "ce", "after": "mislas", "after.share": 0.05}),
        ("deepsmote", {"generate.schedule": "always", "generate.penalty": "matched"}),
    ],
)
def test_later_methods_have_their_papers_values(name: str, values: dict[str, Value]) -> None:
    flat: dict[str, Any] = TrainConfig.from_settings(PRESETS[name].settings).flat()
    assert {key: flat[key] for key in values} == values


@every_preset
@given(
    seed=st.integers(0, 99),
    optimizer=st.sampled_from(["sgd", "adamw", "sam"]),
    schedule=st.sampled_from(["step", "cosine"]),
)
@settings(max_examples=5)
def test_plain_keeps_the_way_of_training_and_no_method(
    name: str, seed: int, optimizer: str, schedule: str
) -> None:
    way: dict[str, Value] = {
        "model.head": "cosine",
        "optimizer": optimizer,
        "optimizer.lr": 0.03,
        "schedule": schedule,
        "schedule.cooldown": 0.4,
        "epochs": 30,
    }
    config = TrainConfig.from_settings(active({**PRESETS[name].settings, **way}))
    kept = {
        key: value
        for key, value in PRESETS[name].settings.items()
        if key.partition(".")[0] in ("optimizer", "schedule", "batch_size")
    }
    erm = TrainConfig.from_settings(active({**PRESETS["erm"].settings, **kept, **way}))
    assert config.baseline(seed=seed) == erm.replace(seed=seed)
    assert config.baseline(optimizer="sgd").optimizer.name == "sgd"


@pytest.mark.parametrize("slot", ["mix", "generate", "loss", "after"])
def test_every_named_method_is_in_some_preset(slot: str) -> None:
    assert {preset.settings[slot] for preset in PRESETS.values()} == set(SLOTS[slot].names())


def test_an_unknown_preset_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^unknown preset 'mamx': did you mean 'mamix'\?[^\n]*$"):
        find_preset("mamx")
