"""Registries and TrainConfig: names, knobs, round trips, error lines."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from imbtune.config.slots import SLOTS
from imbtune.config.train_config import TrainConfig, active, flatten
from imbtune.errors import ConfigError
from imbtune.registry import DeclaredKnob, Knob, Registry, knobs_of
from imbtune.spaces.presets import PRESETS, find_preset


def values(parameter: DeclaredKnob) -> st.SearchStrategy[Any]:
    """Valid values of a knob."""
    knob = parameter.knob
    if knob.choices:
        return st.sampled_from(knob.choices)
    if knob.pattern:
        return st.sampled_from(["0", "0 0.5", "0 1/3 2/3"])
    if parameter.type is bool:
        return st.booleans()
    low = knob.low if knob.low is not None else -1e6
    high = knob.high if knob.high is not None else 1e6
    if parameter.type is int:
        return st.integers(int(low), int(high))
    return st.floats(low, high)


@st.composite
def settings(draw: st.DrawFn) -> dict[str, Any]:
    """A part for every slot, and values for some of their knobs."""
    drawn: dict[str, Any] = {}
    for slot, registry in SLOTS.items():
        entry = registry[draw(st.sampled_from(registry.names()))]
        drawn[slot] = entry.name
        for name, parameter in entry.knobs.items():
            if draw(st.booleans()):
                drawn[f"{slot}.{name}"] = draw(values(parameter))
    drawn["epochs"] = draw(st.integers(1, 1000))
    return drawn


@given(settings())
def test_config_round_trips_through_flat_yaml_json_and_pickle(
    given_settings: dict[str, Any],
) -> None:
    config = TrainConfig.from_settings(given_settings)
    assert TrainConfig.from_settings(config.flat()) == config
    assert TrainConfig.from_nested(yaml.safe_load(config.yaml())) == config
    assert TrainConfig.from_nested(json.loads(json.dumps(config.nested()))) == config
    assert pickle.loads(pickle.dumps(config)) == config


@given(settings())
def test_given_settings_stand_in_the_config(given_settings: dict[str, Any]) -> None:
    flat = TrainConfig.from_settings(given_settings).flat()
    assert {key: flat[key] for key in given_settings} == given_settings


@given(settings())
def test_changing_nothing_changes_nothing(given_settings: dict[str, Any]) -> None:
    config = TrainConfig.from_settings(given_settings)
    assert config.replace(epochs=config.epochs) == config
    assert active(config.flat()) == config.flat() or config.weights.knobs["schedule"] == "never"


def test_numbers_in_yaml_written_as_words_are_numbers() -> None:
    """YAML 1.1 reads 1e-4 as a string."""
    config = TrainConfig.from_nested(yaml.safe_load("optimizer: {weight_decay: 1e-4}"))
    assert config.optimizer.knobs["weight_decay"] == 1e-4


def test_a_product_of_mixing_parts_has_the_knobs_of_all_three() -> None:
    config = TrainConfig.from_settings(
        {"mix": "any_class_knn+cutmix+margin_aware", "mix.omega": 0.5, "mix.neighbours": 3}
    )
    assert set(config.mix.own) == {"neighbours", "space", "alpha", "omega"}


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"mix.alfa": 1}, "unknown knob 'mix.alfa': did you mean 'mix.alpha'?"),
        ({"mix": "mamx"}, "unknown mix 'mamx': did you mean 'mamix'?"),
        (
            {"mix": "mixup", "mix.omega": 0.1},
            "mix 'mixup' has no knob 'omega': it belongs to mamix",
        ),
        ({"mix": "mamix", "mix.omega": -1}, "mix.omega=-1.0 is out of range: from 0 to 4"),
        ({"mix": "mixup", "mix.alpha": float("nan")}, "mix.alpha=nan is out of range"),
        ({"epoch": 3}, "unknown setting 'epoch': did you mean 'epochs'?"),
        ({"epochs": "many"}, "epochs='many' is not a whole number: at least 1"),
        ({"epochs": 1.5}, "epochs=1.5 is not a whole number: at least 1"),
        ({"epochs": True}, "epochs=True is not a whole number: at least 1"),
        ({"optimizer.nesterov": 1}, "optimizer.nesterov=1 is not a Boolean: true | false"),
        ({"mix": "shuffle+linear+soft"}, "unknown label 'soft'"),
        ({"mix": ["mixup"]}, "unknown mix '['mixup']'"),
        ({"precision": "fp8"}, "unknown value for precision 'fp8'"),
    ],
)
def test_what_cannot_be_is_one_line_with_the_fix(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_settings(wrong)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_no_mapping() -> None:
    with pytest.raises(ConfigError, match="a configuration is a mapping"):
        flatten(["mix"])


def test_knobs_of_parts_not_chosen_fall_away_but_unknown_ones_do_not() -> None:
    assert active({"mix": "mixup", "mix.omega": 0.5, "mix.alpha": 1}) == {
        "mix": "mixup",
        "mix.alpha": 1,
    }
    with pytest.raises(ConfigError, match=r"mix\.alfa"):
        active({"mix": "mixup", "mix.alfa": 1})


def test_a_registered_part_of_ones_own_has_its_parameters_as_knobs() -> None:
    registry = Registry("loss", "for this test")

    @registry.register("mine", help="…", source="here")
    def mine(
        counts: int, *, bite: Annotated[float, Knob("teeth", 0, 1)] = 0.5, plain: int = 3
    ) -> None:
        """Only `bite` is a knob."""

    assert list(registry["mine"].knobs) == ["bite"]
    assert registry["mine"].knobs["bite"].default == 0.5
    with pytest.raises(ConfigError, match="registered already"):
        registry.register("mine", help="…")(mine)
    registry.remove("mine")
    registry.register("mine", help="…")(mine)


def test_the_knobs_of_components_are_the_slots_and_named_parts_own_them_first() -> None:
    rules = Registry("rule", "for this test")
    slot = Registry("mix", "for this test", components=(rules,))

    @rules.register("bent", help="…")
    def bent(
        x: int,
        *,
        bend: Annotated[float, Knob("…", 0, 1)] = 0.5,
        tilt: Annotated[float, Knob("…", 0, 1)] = 0.5,
    ) -> None:
        """Two knobs; a named part has one of them."""

    @slot.register("named", help="…")
    def named(*, tilt: Annotated[float, Knob("…", 0, 1)] = 0.5) -> None: ...

    assert list(slot.knobs()) == ["tilt", "bend"]
    assert [entry.name for entry in slot.parts_with("tilt")] == ["named"]
    assert [entry.name for entry in slot.parts_with("bend")] == ["bent"]
    assert slot.names() == ["named"]


def test_a_knob_annotated_as_a_number_with_a_whole_default_is_a_number() -> None:
    def part(
        *,
        plain: Annotated[float, Knob("…", 0, 9)] = 1,
        either: Annotated[float | Any, Knob("…", 0, 9)] = 1,
        whole: Annotated[int, Knob("…", 0, 9)] = 1,
        switch: Annotated[bool, Knob("…")] = True,
    ) -> None: ...

    types = {name: p.type for name, p in knobs_of(part).items()}
    assert types == {"plain": float, "either": float, "whole": int, "switch": bool}
    assert knobs_of(part)["plain"].check("loss.plain", 0.5) == 0.5


def test_knobs_that_cannot_be_are_one_line() -> None:
    def no_default(*, bend: Annotated[float, Knob("…", 0, 1)]) -> None: ...
    def outside(*, bend: Annotated[float, Knob("…", 0, 1)] = 2.0) -> None: ...
    def a_list(*, bend: Annotated[Any, Knob("…")] = ()) -> None: ...
    def any_word(*, bend: Annotated[str, Knob("…")] = "left") -> None: ...
    def other_word(*, bend: Annotated[str, Knob("…", choices=("left",))] = "lefft") -> None: ...

    wrong: dict[Callable[..., Any], str] = {
        no_default: "the knob 'bend' of no_default needs a default",
        outside: "the knob 'bend' of outside: its default=2.0 is out of range: from 0 to 1",
        a_list: "the knob 'bend' of a_list has the default ()",
        any_word: "the knob 'bend' of any_word is a string: give Knob(..., choices=(...))",
        other_word: "unknown value for the knob 'bend' of other_word: its default 'lefft': did you",
    }
    for part, line in wrong.items():
        with pytest.raises(ConfigError) as caught:
            knobs_of(part)
        assert str(caught.value).startswith(line)


@pytest.mark.parametrize("name", ["", "a+b", "a b", "mix.a"])
def test_names_that_could_not_be_chosen(name: str) -> None:
    with pytest.raises(ConfigError, match="use only letters, digits"):
        Registry("loss", "for this test").register(name, help="…")(lambda: None)


def test_every_preset_is_a_configuration() -> None:
    for name, preset in PRESETS.items():
        flat = TrainConfig.from_settings(preset.settings).flat()
        assert {key: flat[key] for key in preset.settings} == preset.settings, name


def test_methods_stand_with_and_without_deferred_reweighting() -> None:
    bases = ["ldam", "smote", "soft_smote", "mixup", "remix", "mamix"]
    for name in bases:
        drw = TrainConfig.from_settings(find_preset(f"{name}_drw").settings)
        assert drw.weights.name == "effective_number"
        assert drw.weights.shared.schedule == "deferred"
        assert TrainConfig.from_settings(find_preset(name).settings).weights.name == "none"
    assert TrainConfig.from_settings(find_preset("ldam").settings).loss_head == "cosine"
