"""The model card of a trained model: the README.md of its folder, as on the Hugging Face Hub.

It is written without a network. Its intervals are those of the test images; its spread is that of
the seeds.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbtune import __version__
from imbtune.config.defaults import DEFAULTS
from imbtune.config.train_config import TrainConfig
from imbtune.inference.calibration import KEEP_A_SHARE, Calibration
from imbtune.inference.evaluating.metric_intervals import MetricInterval
from imbtune.inference.preprocess import Preprocess
from imbtune.metrics.intervals import wilson
from imbtune.metrics.metric_registry import group_lines
from imbtune.metrics.number_text import as_text

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
MOST_CLASSES = 20  # that the card lists: the largest and the smallest
METHOD_SLOTS = ("mix", "generate", "loss", "weights", "sampler", "after")

# The threshold is chosen after the card was written, so the second is added then, with "them" or
# how many of them
USED_ONCE = "The test images were used once, when the training had ended."
THRESHOLD_ON_TEST = (
    "Then a threshold was chosen on {} (`threshold.json`): the table below is without it, and "
    "what `imbtune evaluate` says with it of these images is optimistic."
)

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CardContent:
    """What a card tells.

    Attributes:
        config: that the model was trained with.
        classes: names of the classes.
        train_K: training images of each class.
        confusion_KK: of the test images.
        origin: where the configuration comes from, in a sentence.
        intervals: every metric of this model on the test images, as `imbtune evaluate` gives it.
        undefined: metrics without a value on the test images, and why; a line for each reason.
        spread: mean and standard deviation of each metric over the seeds; empty for one seed.
        ensemble: metrics of the mean of the seeds' probabilities; empty if it was not tested.
        seeds: all that were trained, in order; the first one is this model's.
        preprocess: how images become the network's input.
        scale: of the softmax.
        calibration: the temperature; None without one.
        on_test: `log_loss` and `ece` on the test images, without and with the temperature; empty
            without one.
        ensemble_on_test: the same of the ensemble, without and with its own temperature.
        options: what else was done in the training, in one line each.
        place: the name of the model's folder, for the example.
    """

    config: TrainConfig
    classes: Sequence[str]
    train_K: Ints
    confusion_KK: Ints
    origin: str
    intervals: Sequence[MetricInterval]
    undefined: Sequence[str]
    spread: Mapping[str, tuple[float, float]]
    ensemble: Mapping[str, float | None]
    seeds: Sequence[int]
    preprocess: Preprocess
    scale: float
    calibration: Calibration | None
    on_test: Mapping[str, tuple[float, float]]
    ensemble_on_test: Mapping[str, tuple[float, float]]
    options: Sequence[str]
    place: str


def model_card(content: CardContent) -> str:
    """The text of the card, with its metadata for the Hub at the top."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # takes a second

    config, train_K = content.config, content.train_K
    title = f"{config.data.name}: {method_of(config)}"
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=config.data.name,
            dataset_name=config.data.name,
            dataset_split="test",
            metric_type=found.name,
            metric_value=found.value,
            metric_name=found.title,
        )
        for found in content.intervals
    ]
    data = ModelCardData(
        library_name="imbtune",
        pipeline_tag="image-classification",
        tags=["imbalanced-classification", "long-tailed", config.loss.name],
        model_name=content.place or "model",
        eval_results=results,
    )
    order, several = np.argsort(-train_K, kind="stable"), len(content.seeds) > 1
    listed = order
    if len(order) > MOST_CLASSES:
        listed = np.concatenate([order[: MOST_CLASSES // 2], order[-MOST_CLASSES // 2 :]])
    shape = content.preprocess.image_shape
    assert shape, "a training says it"
    card = ModelCard.from_template(
        data,
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=title,
        version=__version__,
        classes=content.classes,
        several=several,
        seed=config.seed,
        seeds=content.seeds,
        data=f"`{config.data.name}`",
        profile=_profile(config),
        train_images=f"{int(train_K.sum()):,}",
        test_images=f"{int(content.confusion_KK.sum()):,}",
        shape=" × ".join(map(str, shape)),
        largest=_of_class(content, int(order[0])),
        smallest=_of_class(content, int(order[-1])),
        ratio=f"{train_K.max() / max(1, train_K.min()):.4g}",
        kept=_kept(content.calibration),
        class_rows=_class_rows(content, listed),
        shown=len(listed),
        method=method_of(config),
        origin=content.origin,
        epochs=config.epochs,
        network=config.model.name,
        details=[*_sources(config), *content.options],
        used_once=USED_ONCE,
        metric_rows=_metric_rows(content),
        about_metrics=_about_metrics(several),
        groups=group_lines(found.name for found in content.intervals),
        calibration=_about_probabilities(content.calibration, content.on_test),
        ensemble_calibration=_about_ensemble(content.ensemble_on_test),
        size_limit=_size_limit(content.preprocess),
        limits=_limits(content),
        quoted_place=json.dumps(content.place, ensure_ascii=False, allow_nan=False),
        shell_place=shlex.quote(content.place),
        scale=f"{content.scale:g}",
        temperature=content.calibration.temperature if content.calibration else 1,
    )
    return str(card)


def method_of(config: TrainConfig) -> str:
    """A configuration in a few words: the parts of its method."""
    parts = [
        f"{slot} `{getattr(config, slot).name}`"
        for slot in METHOD_SLOTS
        if getattr(config, slot).name != DEFAULTS[slot]
    ]
    return ", ".join(parts) or "plain cross-entropy"


def _profile(config: TrainConfig) -> str:
    """Where the imbalance comes from; empty where the classes are as they came."""
    chosen = config.data.shared
    if chosen.profile == "as_is":
        return ""
    return f"classes reduced by the profile `{chosen.profile}` with ratio {chosen.ratio:g}"


def _of_class(content: CardContent, index: int) -> str:
    return f"{int(content.train_K[index]):,} (`{_cell(content.classes[index])}`)"


def _cell(text: str) -> str:
    """Text that does not end a cell of a Markdown table or a code span."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")


def _class_rows(content: CardContent, listed: Ints) -> str:
    rows = ["| class | training images | test images | recall |", "|---|---:|---:|---|"]
    for k in listed.tolist():
        test, hits = int(content.confusion_KK[k].sum()), int(content.confusion_KK[k, k])
        recall = "no test image"
        if test:
            low, high = wilson(hits, test)
            recall = f"{hits / test:.3f} [{low:.3f}, {high:.3f}]"
        name = _cell(content.classes[k])
        rows.append(f"| {name} | {int(content.train_K[k]):,} | {test:,} | {recall} |")
    return "\n".join(rows)


def _metric_rows(content: CardContent) -> str:
    several = bool(content.spread)
    heading = ["metric", "this model", "95 % interval"]
    heading += [f"{len(content.seeds)} seeds: mean ± std"] if several else []
    heading += ["ensemble of the seeds"] if content.ensemble else []
    rows = [f"| {' | '.join(heading)} |", "|" + "---|" * len(heading)]
    for found in content.intervals:
        ends = "" if found.low is None else f"[{as_text(found.low)}, {as_text(found.high)}]"
        cells = [_cell(found.title), as_text(found.value), ends]
        if several:
            mean, std = content.spread[found.name]
            cells.append(f"{as_text(mean)} ± {std:.4f}")
        if content.ensemble:
            value = content.ensemble.get(found.name)
            cells.append("" if value is None else as_text(value))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _about_metrics(several: bool) -> str:
    text = (
        "The interval is that of other test images, as many of each class, as `imbtune evaluate` "
        "gives it"
    )
    if several:
        return f"{text}. The standard deviation is that of the seeds."
    return f"{text}. Another seed changes the metrics, too, and one seed does not tell how far."


def _sources(config: TrainConfig) -> list[str]:
    lines = []
    for slot in ("model", *METHOD_SLOTS):
        chosen = getattr(config, slot)
        source = chosen.part.source
        if source:
            lines.append(f"{slot} `{chosen.name}`: {source}")
        elif not chosen.part.is_builtin:
            lines.append(f"{slot} `{chosen.name}`: a plugin of the author's")
    return lines


def _kept(calibration: Calibration | None) -> str:
    return (
        f"{calibration.images:,} more images trained nothing: {calibration.source}."
        if calibration
        else ""
    )


def _about_probabilities(
    calibration: Calibration | None, on_test: Mapping[str, tuple[float, float]]
) -> str:
    if calibration is None:
        return f"They are the softmax that the loss trained, and not calibrated: {KEEP_A_SHARE}."
    shares = (
        "The probabilities are those that the loss trained, with the temperature alone: where the "
        "loss, weights or sampler balance the classes, they are for no class mix that was met. "
        "`imbtune predict --prior` gives them for a given one, from what the same images say that "
        "they imply (`label_shift` in `calibration.json`)."
    )
    if not calibration.is_fitted:
        return (
            f"No temperature could be fitted: {calibration.note}. The images are "
            f"{calibration.source}. {shares}"
        )
    before, after = calibration.log_loss
    ece_before, ece_after = calibration.ece
    text = (
        f"Temperature {calibration.temperature:.4g}, fitted on {calibration.images:,} images: "
        f"{calibration.source}. On these images, which it fits best of all, the log-loss "
        f"was {before:.4f} "
        f"and is {after:.4f}, the expected calibration error was {ece_before:.4f} and is "
        f"{ece_after:.4f}. {_about_test(on_test)}{shares}"
    )
    return f"{text} Note: {calibration.note}." if calibration.note else text


def _about_ensemble(on_test: Mapping[str, tuple[float, float]]) -> str:
    if not on_test:
        return ""
    told = _about_test(on_test, " of the ensemble", "the ensemble's own temperature")
    return f"The ensemble has a temperature of its own, fitted on the same images. {told}".strip()


def _about_test(
    on_test: Mapping[str, tuple[float, float]], of: str = "", which: str = "the temperature"
) -> str:
    """The same of the test images, with a warning where the temperature made them worse.

    Args:
        on_test: as in :class:`CardContent`.
        of: whose they are, in words.
        which: temperature.
    """
    words = {"log_loss": "the log-loss", "ece": "the expected calibration error"}
    told = [
        f"{words[name]}{of} was {before:.4f} and is {after:.4f}"
        for name, (before, after) in on_test.items()
    ]
    if not told:
        return ""
    text = f"On the test images, {', '.join(told)}. "
    before, after = on_test.get("log_loss", (0.0, 0.0))
    if after > before:
        text += (
            f"**Warning: {which} made the log-loss of the test images worse**: the images that it "
            "was fitted on may be too few, or the test images have other class shares. "
        )
    return text


def _size_limit(preprocess: Preprocess) -> str:
    if preprocess.crop:
        return (
            "Images of other sizes are scaled and centre-cropped to a square: what lies outside of "
            "it is not seen."
        )
    return "It takes images of this one size; it was trained on no other scale."


def _limits(content: CardContent) -> list[str]:
    test_K, lines = content.confusion_KK.sum(1), []
    if without := int((test_K == 0).sum()):
        lines.append(f"{_classes(without)} no test image: nothing is known of the recall.")
    lines += [f"Metrics that are {_cell(line)}." for line in content.undefined]
    if few := int((content.train_K < 20).sum()):
        lines.append(f"{_classes(few)} fewer than 20 training images.")
    return lines


def _classes(count: int) -> str:
    return "1 class has" if count == 1 else f"{count} classes have"
