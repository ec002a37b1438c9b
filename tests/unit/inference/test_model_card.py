"""The model card: each sentence that depends on the training is there exactly when it is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import imbtune
from imbtune.config.train_config import TrainConfig
from imbtune.final_training.final_task import TrainOptions
from imbtune.final_training.origin import origin_in_words
from imbtune.inference.calibration import calibrate
from imbtune.inference.model_card import _about_probabilities, _about_test
from imbtune.metrics.intervals import wilson
from imbtune.metrics.predictions import ClassCounts

SMALL: dict[str, Any] = {
    **{"data.head": 60, "data.ratio": 30, "model.width": 4, "epochs": 2},
    **{"batch_size": 30, "precision": "float32"},
}
WARNING = "Warning: the temperature made the log-loss of the test images worse"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one seed, trained without any option."""
    config = TrainConfig.from_settings({**SMALL, "loss": "ldam"})
    out = tmp_path_factory.mktemp("plain") / "my model"
    return imbtune.train(config, out=out, progress=None).path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every option."""
    config = TrainConfig.from_settings({**SMALL, "seed": 7})
    out = tmp_path_factory.mktemp("whole") / "model"
    options: dict[str, Any] = {"seeds": 2, "ema": 0.5, "calibrate": 0.2, "ensemble": True}
    return imbtune.train(config, out=out, progress=None, **options).path


def card_of(model: Path) -> str:
    card = (model / "README.md").read_text()
    assert "\n\n\n" not in card
    assert "pip install imbtune" not in card  # there is no such package
    return card


def section(card: str, name: str) -> str:
    return card.split(f"\n## {name}\n")[1].split("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """The rows of the first Markdown table, without the line below its heading."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return [cells[0], *cells[2:]]


def test_a_card_without_options_claims_none(plain: Path) -> None:
    card = card_of(plain)
    for words in ("seeds", "ensemble", "(--calibrate)", "moving average", "Temperature", WARNING):
        assert words not in card
    assert "They are the softmax that the loss trained, and not calibrated" in card
    assert "imbtune train --calibrate 0.1" in section(card, "Probabilities")
    assert "one seed does not tell how far" in section(card, "Test result")
    assert table(section(card, "Test result"))[0] == ["metric", "this model", "95 % interval"]
    assert "The softmax takes the network's outputs times 30." in card  # LDAM's scale
    assert "loss `ldam`. 2 epochs, network `small_cnn`." in section(card, "Method")
    assert "- loss `ldam`: Cao et al. 2019" in card
    assert "threshold" not in card  # of two classes only
    assert "It takes images of this one size" in card


def test_a_folder_with_a_space_is_quoted(plain: Path) -> None:
    card = card_of(plain)
    assert "imbtune predict 'my model' IMAGES" in card
    assert 'imbtune.load_model("my model")' in card


def test_the_data_in_a_card_are_those_of_the_training(plain: Path, whole: Path) -> None:
    labels = json.loads((plain / "labels.json").read_text())
    train_K = labels["training_images"]
    data = section(card_of(plain), "Data")
    assert (
        f"`digits` (classes reduced by the profile `exp` with ratio 30): {sum(train_K)} train"
        in data
    )
    assert "and 400 test images of 1 × 8 × 8" in data
    assert f"{train_K[0]} (`0`) training images, the smallest {train_K[9]} (`9`): 30 to 1." in data
    hits_K = np.array(json.loads((plain / "metrics.json").read_text())["runs"][0]["confusion_KK"])
    for k, row in enumerate(table(data)[1:]):
        low, high = wilson(int(hits_K[k, k]), 40)
        recall = f"{hits_K[k, k] / 40:.3f} [{low:.3f}, {high:.3f}]"
        assert row == [str(k), str(train_K[k]), "40", recall]
    assert "trained nothing" not in data
    kept = json.loads((whole / "calibration.json").read_text())["images"]
    assert f" {kept} more images trained nothing" in section(card_of(whole), "Data")
    few = sum(count < 20 for count in train_K)
    assert f"- {few} classes have fewer than 20 training images." in section(
        card_of(plain), "Limits"
    )


def test_a_card_with_every_option_tells_them(whole: Path) -> None:
    card = card_of(whole)
    assert "This is the model of seed 7, the first of 2 seeds (7, 8)" in card
    about = section(card, "Test result")
    assert "as `imbtune evaluate` gives it. The standard deviation is that of the seeds." in about
    assert "- The weights are an exponential moving average over the training (decay 0.5)" in card
    assert "- A share of 0.2 of each class's training images trained nothing" in card
    fitted = json.loads((whole / "calibration.json").read_text())
    about = section(card, "Probabilities")
    assert f"Temperature {fitted['temperature']:.4g}, fitted on {fitted['images']} images" in about
    losses = fitted["log_loss"]
    assert f"the log-loss was {losses['before']:.4f} and is {losses['after']:.4f}" in about
    assert f"divided by {fitted['temperature']}." in section(card, "How to use")
    assert "uses all 2 seeds as one model" in card


def test_the_metrics_of_a_card_are_recorded_ones(whole: Path) -> None:
    metrics = json.loads((whole / "metrics.json").read_text())
    heading, *rows = table(section(card_of(whole), "Test result"))
    assert heading[3:] == ["2 seeds: mean ± std", "ensemble of the seeds"]
    by_title = {row[0]: row[1:] for row in rows}
    for found in metrics["intervals"]:
        spread, name = metrics["test"][found["name"]], found["name"]
        assert by_title[found["title"]] == [
            f"{found['value']:.4f}",
            f"[{found['low']:.4f}, {found['high']:.4f}]",
            f"{spread['mean']:.4f} ± {spread['std']:.4f}",
            f"{metrics['ensemble']['metrics'][name]:.4f}",
        ]
    assert len(by_title) == len(metrics["intervals"]) > 15


def test_the_card_of_another_seed_claims_no_seeds(whole: Path) -> None:
    card = card_of(whole / "seed8")
    assert "2 seeds" not in card and "ensemble" not in card
    assert "imbtune predict seed8 IMAGES" in card
    assert "The weights are an exponential moving average" in card


def test_a_temperature_that_made_the_test_worse_is_a_warning(whole: Path) -> None:
    """The figures are those of metrics.json, and the warning is there if the log-loss rose."""
    (run, _) = json.loads((whole / "metrics.json").read_text())["runs"]
    before, after = run["without"]["temperature"]["log_loss"], run["metrics"]["log_loss"]
    said = section(card_of(whole), "Probabilities")
    assert f"On the test images, the log-loss was {before:.4f} and is {after:.4f}" in said
    assert (WARNING in said) == (after > before)
    for figures, warns in [((0.5, 0.6), True), ((0.5, 0.5), False), ((0.6, 0.5), False)]:
        told = _about_test({"log_loss": figures, "ece": (0.1, 0.2)})
        assert f"the log-loss was {figures[0]:.4f} and is {figures[1]:.4f}" in told
        assert "the expected calibration error was 0.1000 and is 0.2000" in told
        assert (WARNING in told) is warns
    assert _about_test({}) == ""


def test_the_ensemble_s_own_temperature_is_told_of_the_test_images(whole: Path) -> None:
    ensemble = json.loads((whole / "metrics.json").read_text())["ensemble"]
    before = ensemble["without"]["own_temperature"]["log_loss"]
    after = ensemble["metrics"]["log_loss"]
    said = section(card_of(whole), "Probabilities")
    assert f"the log-loss of the ensemble was {before:.4f} and is {after:.4f}" in said
    warning = "Warning: the ensemble's own temperature made the log-loss of the test images worse"
    assert (warning in said) == (after > before)


def test_groups_are_explained_where_they_are_told(plain: Path) -> None:
    """digits with 60 to 2 images: no class is `many`."""
    result = section(card_of(plain), "Test result")
    assert "- medium: mean recall of the classes with 20 to 100 training images" in result
    assert "- few: mean recall of the classes with fewer than 20 training images" in result
    assert "many:" not in result and "| many |" not in result


def test_two_classes_name_the_positive_one_and_the_threshold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = {"y_train": (["ok"] * 30 + ["a|b"]) * 2, "y_test": ["ok"] * 5 + ["a|b"] * 5}
    arrays: dict[str, Any] = {}
    for key, labels in names.items():
        arrays[key] = np.array(labels)
        size = (len(labels), 8, 8)
        arrays[key.replace("y", "x", 1)] = rng.integers(0, 255, size, dtype=np.uint8)
    np.savez(tmp_path / "two.npz", **arrays)
    settings = {k: v for k, v in SMALL.items() if not k.startswith("data.")}
    settings |= {"data": "npz", "data.profile": "as_is", "loss": "ce", "epochs": 1}
    config = TrainConfig.from_settings(settings)
    out = tmp_path / "model"
    imbtune.train(config, out=out, data=tmp_path / "two.npz", progress=None)
    card = card_of(out)
    assert "`npz`: 62 training and 10 test images" in card  # no profile
    assert "plain cross-entropy. 1 epoch, network `small_cnn`." in section(card, "Method")
    assert "the smallest 2 (`a\\|b`): 30 to 1." in card
    assert "| recall_at_precision (precision ≥ 0.9, of 'a\\|b') |" in card
    assert "If the folder has `threshold.json`, that decides" in card
    assert "- 1 class has fewer than 20 training images." in section(card, "Limits")
    assert "top_k" not in section(card, "Test result")  # all of two classes are among 5


def test_a_class_without_test_images_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": rng.integers(0, 255, (40, 8, 8), dtype=np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": rng.integers(0, 255, (9, 8, 8), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
    }
    np.savez(tmp_path / "four.npz", **arrays)
    settings = {k: v for k, v in SMALL.items() if not k.startswith("data.")}
    config = TrainConfig.from_settings({**settings, "data": "npz", "data.profile": "as_is"})
    out = tmp_path / "model"
    imbtune.train(config, out=out, data=tmp_path / "four.npz", progress=None)
    card = card_of(out)
    assert "| 3 | 10 | 0 | no test image |" in card
    assert "- 1 class has no test image: nothing is known of the recall." in card
    assert "nan" not in card.lower().replace("nance", "")


@pytest.mark.parametrize(
    ("wrong", "says", "never"),
    [
        (0, "No temperature could be fitted: all 6 images are predicted correctly", "fitted on"),
        (
            1,
            "fitted on 6 images: kept ones. On these images, which",
            "could be fitted",
        ),
    ],
)
def test_a_temperature_is_fitted_or_it_is_not(wrong: int, says: str, never: str) -> None:
    """Where all images are right the card says only that none could be fitted."""
    labels_N = torch.tensor([0, 1, 0, 1, 0, 1])
    logits_N2 = 3.0 * torch.nn.functional.one_hot(labels_N, 2)
    logits_N2[:wrong] = logits_N2[:wrong].flip(1)
    calibration = calibrate(logits_N2, labels_N, "kept ones", ["cat", "dog"], np.array([9, 3]))
    said = _about_probabilities(calibration, {})
    assert says in said
    assert never not in said
    assert said.count("`label_shift` in `calibration.json`") == 1
    assert "fitted" not in " ".join(TrainOptions(calibrate=0.2).lines())


COUNTS = ClassCounts(("cat", "dog"), np.array([9, 3]), np.array([2, 2]))
F_BETA = {"name": "f_beta", "beta": 3.0, "of": "dog"}


@pytest.mark.parametrize(
    ("provenance", "says"),
    [
        (
            {"winner": {"trial": 3}, "objectives": ["balanced_accuracy"]},
            "It was chosen for the objective balanced_accuracy.",
        ),
        (
            {"winner": {"trial": 3}, "objectives": ["log_loss"]},
            "It was chosen for the objective log_loss, where lower is better.",
        ),
        (
            {"winner": {"trial": 3}, "objectives": [F_BETA], "changed": ["epochs=9"]},
            "A search chose a configuration for the objective f_beta (beta 3, of 'dog'); this is "
            "that one changed by `epochs=9`, which no search has chosen.",
        ),
        (
            {"winner": {"trial": 3}, "objectives": ["macro_f1"], "unrecorded": True},
            "It is from the file of a search's choice for the objective macro_f1; the file does "
            "not record the chosen settings, so whether these are those is not known.",
        ),
        (
            {"trial": {"trial": 7}, "scores": {"a": 1}, "objectives": ["macro_f1", "g_mean"]},
            "It is trial 7 of a search's Pareto front of macro_f1 and g_mean; the search chose "
            "none of the front.",
        ),
        (
            {"scores": {}, "objectives": ["macro_f1", "log_loss"], "changed": ["loss=ldam"]},
            "It is a trial of a search's Pareto front of macro_f1 and log_loss, where "
            "lower is better in log_loss, changed by `loss=ldam`; no search has found it.",
        ),
        (
            {"scores": {}, "objectives": ["macro_f1", "g_mean"], "unrecorded": True},
            "It is from the file of a trial of a search's Pareto front of macro_f1 and g_mean; the "
            "file does not record the chosen settings, so whether these are those is not known.",
        ),
        (
            {"winner": {}, "objectives": ["accuracy"], "searched": ["macro_f1"]},
            "It was chosen for the objective macro_f1.",
        ),
        (
            {"trial": 0, "file": "best.yaml"},
            "It is trial 0 of a search, which is not its winner; no search has chosen it.",
        ),
        (
            {"preset": "smote", "changed": ["optimizer.lr=0.3"]},
            "It is the preset `smote`, changed by `optimizer.lr=0.3`; no search has chosen it.",
        ),
        (
            {"file": "/home/someone/mine.yaml"},
            "It is the configuration of the file `mine.yaml`.",
        ),
        (
            {"file": "config.yaml", "objectives": ["accuracy"], "changed": ["epochs=3"]},
            "It is the configuration of the file `config.yaml`, changed by `epochs=3`.",
        ),
        ({}, "It is a configuration that was given in Python."),
    ],
)
def test_a_choice_is_claimed_only_where_one_took_place(
    provenance: dict[str, Any], says: str
) -> None:
    assert origin_in_words(provenance, COUNTS) == says
