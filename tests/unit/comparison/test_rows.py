"""Which configurations a comparison has: presets, and winners of studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from made_study import SPACE, make_study

from imbtune.comparison.rows import make_comparison, read_comparison
from imbtune.errors import ConfigError, ImbtuneError, StudyError
from imbtune.spaces.presets import PRESETS
from imbtune.spaces.search_space import SearchSpace
from imbtune.spaces.space_file import load_space, parse_space
from imbtune.storage import Store
from imbtune.study.results.comparison_record import Comparison

DIGITS = load_space("digits-lt")
TINY = parse_space("tiny", SPACE)


def compare(
    space: SearchSpace = DIGITS,
    presets: list[str] | None = None,
    studies: list[str] | None = None,
    seeds: Any = (0, 1),
    reference: str | None = None,
) -> Comparison:
    return make_comparison(space, presets, studies or [], seeds, reference)


def names(comparison: Comparison) -> list[str]:
    return [row.name for row in comparison.rows]


def test_the_presets_of_the_space_are_compared_unless_others_are_named() -> None:
    assert names(compare()) == list(DIGITS.presets())
    assert names(compare(presets=["all"])) == list(PRESETS)
    assert names(compare(presets=["vs", "erm"])) == ["vs", "erm"]


def test_a_preset_has_the_settings_of_a_training_with_the_seed_of_the_run() -> None:
    comparison = compare(DIGITS.pin({"epochs": 3}), ["mamix_drw"])
    (row,) = comparison.rows
    config = DIGITS.pin({"epochs": 3}).preset("mamix_drw")
    assert row.config(7) == config.replace(seed=7)
    assert [seed for _, seed in comparison.runs] == [0, 1]


def test_every_row_has_the_first_seed_before_any_has_the_second() -> None:
    runs = [(row.name, seed) for row, seed in compare(presets=["erm", "vs"], seeds=(4, 5)).runs]
    assert runs == [("erm", 4), ("vs", 4), ("erm", 5), ("vs", 5)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"presets": ["mixup_drv"]}, "unknown preset 'mixup_drv': did you mean 'mixup_drw'?"),
        ({"presets": ["ERM"]}, "unknown preset 'ERM': did you mean 'erm'?"),
        ({"presets": ["al"]}, "unknown preset 'al': did you mean 'all'?"),
        ({"presets": ["erm", "all"]}, "--presets erm,all: give 'all' alone"),
        ({"presets": ["erm", "vs", "erm"]}, "'erm' is compared twice: give it once"),
        ({"presets": ["none"]}, "nothing to compare, neither a preset nor a study: give"),
        (
            {"presets": ["erm", "vs"], "reference": "vz"},
            "unknown row for --reference 'vz': choose one of erm, vs",
        ),
        (
            {"space": DIGITS.pin({"mix": "mixup"}), "presets": ["mixup", "erm"]},
            "--set mix=mixup contradicts the preset 'erm': leave one out",
        ),
        ({"studies": ["nowhere"]}, "nowhere is not a study, it has no study.yaml"),
    ],
)
def test_what_cannot_be_compared_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImbtuneError) as error:
        compare(**options)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "preset"),
    [
        ({"batch_size": 32}, "unimix"),
        ({"weights.reduction": "mean"}, "ldam_drw"),
        ({"mix.omega": 0.0}, "mamix_drw"),
        ({"weights.beta": 0.5}, "drw"),
    ],
)
def test_a_knob_that_makes_a_preset_another_method_is_refused(
    settings: dict[str, Any], preset: str
) -> None:
    space = DIGITS.pin(settings)
    with pytest.raises(ConfigError, match=f"contradicts the preset '{preset}': leave one out"):
        compare(space, [preset])
    rows = names(compare(space, ["all"]))
    assert preset not in rows and "erm" in rows
    assert preset not in space.presets()


def test_presets_that_a_setting_contradicts_are_left_out_of_all() -> None:
    left = names(compare(DIGITS.pin({"mix": "mamix"}), ["all"]))
    assert left == ["mamix", "mamix_drw"]


# ---- winners -------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A study of the space TINY; trial 3 has won."""
    make_study(str(tmp_path / "runs" / "mine"))
    return str(tmp_path / "runs" / "mine")


def test_a_winner_is_compared_under_the_name_of_its_study(study: str) -> None:
    comparison = compare(TINY, ["erm"], [study], reference="mine-winner")
    winner = comparison.rows[1]
    assert (winner.name, winner.preset, winner.study, winner.trial) == (
        "mine-winner",
        None,
        study,
        3,
    )
    assert winner.settings["mix"] == "mamix" and winner.settings["epochs"] == 9
    assert names(compare(TINY, ["none"], [study])) == ["mine-winner"]


def test_settings_that_are_fixed_hold_for_winners_too(study: str) -> None:
    pinned = TINY.pin({"epochs": 2, "optimizer.lr": 0.05, "model.width": 8})
    winner = compare(pinned, ["none"], [study]).rows[0].settings
    assert (winner["epochs"], winner["optimizer.lr"], winner["model.width"]) == (2, 0.05, 8)


def test_a_method_that_is_fixed_must_be_the_winners(study: str) -> None:
    assert names(compare(TINY.pin({"mix": "mamix"}), ["none"], [study])) == ["mine-winner"]
    with pytest.raises(ConfigError, match=r"--set mix=none contradicts the winner of \S+ which"):
        compare(TINY.pin({"mix": "none"}), ["none"], [study])


def test_a_winner_for_other_images_is_refused(study: str) -> None:
    with pytest.raises(ConfigError, match=r"has data\.ratio=100\.0, the space tiny has 20\.0"):
        compare(
            parse_space("tiny", {**SPACE, "data": {"name": "digits", "ratio": 20}}), [], [study]
        )
    # fixed for all rows, it is the same again
    assert names(compare(TINY.pin({"data.ratio": 20}), ["none"], [study])) == ["mine-winner"]


def test_a_study_without_a_winner_is_refused(tmp_path: Path) -> None:
    make_study(str(tmp_path / "young"), best=False)
    with pytest.raises(ConfigError, match=r"young has no best\.yaml, because its search has not"):
        compare(TINY, None, [str(tmp_path / "young")])


# ---- on disk -------------------------------------------------------------------------------------


def test_a_comparison_is_read_as_it_was_written(study: str, tmp_path: Path) -> None:
    comparison = compare(TINY, ["erm", "drw"], [study], (3, 4), "drw")
    store = Store(str(tmp_path / "folder"))
    store.write("comparison.yaml", comparison.yaml().encode())
    assert read_comparison(store) == comparison


@pytest.mark.parametrize(
    "damage",
    [
        {"seeds": []},
        {"rows": [{"name": "erm"}]},
        {
            "rows": [
                {**dict.fromkeys(("name", "preset", "study", "trial")), "settings": {"mix": "x"}}
            ]
        },
        {"imports": ["my_lost"]},
    ],
)
def test_a_damaged_file_is_one_line(damage: dict[str, Any], tmp_path: Path) -> None:
    content = {**yaml.safe_load(compare(presets=["erm"]).yaml()), **damage}
    store = Store(str(tmp_path))
    store.write("comparison.yaml", yaml.safe_dump(content).encode())
    with pytest.raises(StudyError, match=r"cannot read \S+comparison\.yaml .* restore it"):
        read_comparison(store)
