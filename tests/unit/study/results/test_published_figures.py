"""Published figures: each has a source and a preset, and is shown beside its own setting only."""

from __future__ import annotations

import re

import pytest

from imbtune.config.slots import SLOTS
from imbtune.registry import Value
from imbtune.spaces.presets import PRESETS
from imbtune.spaces.space_file import load_space
from imbtune.study.results.published_figures import PublishedFigure, figures_for, published_figures

FIGURES = published_figures()
SETTING = ("name", "profile", "ratio")


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f"{f.preset}-{f.data['name']}")
def test_a_figure_has_its_source_and_setting(figure: PublishedFigure) -> None:
    assert figure.preset in PRESETS
    assert set(SETTING) <= set(figure.data) and figure.data["name"] in SLOTS["data"].names()
    assert 1 < figure.percent < 100
    assert figure.metric and figure.epoch and figure.seeds
    assert figure.training.startswith("ResNet-")
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", figure.url)
    assert re.search(r"\S+/\S+, \S+\.md at [0-9a-f]{7}$", figure.title)


def test_a_source_gives_one_figure_for_a_method_and_a_setting() -> None:
    keys = [(f.title, f.preset, tuple(sorted(f.data.items()))) for f in FIGURES]
    assert len(keys) == len(set(keys)) > 50


def percents(space: str, preset: str | None, **changes: Value) -> list[float]:
    settings = {**load_space(space).base().flat(), **changes}
    return [figure.percent for figure in figures_for(settings, preset)]


def test_figures_of_the_same_data_are_found() -> None:
    assert percents("cifar10-lt", "mamix_drw") == [82.29]
    assert percents("cifar10-lt", "ldam_drw") == [77.75, 77.73]
    assert percents("cifar100-lt", "mixup_drw") == [46.91]
    assert percents("cifar100-lt", "sam_drw") == [44.6]
    assert percents("svhn-lt", "erm") == [79.91]
    assert percents("tiny_imagenet-lt", "mixup_drw") == [37.97]
    assert percents("cinic10-lt", "remix_drw") == [71.15]


def test_figures_of_other_data_are_not() -> None:
    assert percents("cifar10-lt", "mamix_drw", **{"data.ratio": 50.0}) == []
    assert percents("cifar10-lt", "mamix_drw", **{"data.profile": "step"}) == []
    assert percents("svhn-lt", "erm", **{"data.head": 500}) == []
    assert percents("digits-lt", "erm") == []
    assert percents("cifar10-lt", "smote") == []
    assert percents("cifar10-lt", None) == []  # a study's winner


def test_a_figure_is_printed_with_the_decimals_of_its_source() -> None:
    settings = load_space("cifar100-lt").base().flat()
    printed = [
        str(figure) for name in ("remix_drw", "sam_drw") for figure in figures_for(settings, name)
    ]
    assert printed[0] == "46.00" and printed[-1] == "44.6"


def test_which_epoch_was_measured_is_said() -> None:
    (figure,) = figures_for(load_space("cifar10-lt").base().flat(), "mamix_drw")
    assert figure.origin == (
        "ntucllab/imbalanced-DL, example/README.md at caa43d9: top-1 accuracy, best epoch on the "
        "test images, number of seeds not stated; ResNet-32, 200 epochs"
    )
