"""A trained model in use, as the commands and the Python API call it.

`import imbtune` gives these functions their names. None needs Ray, Optuna or W&B.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imbtune.errors import ConfigError, DataError, shown, unknown
from imbtune.inference.decisions.decision import Prior, decision
from imbtune.inference.decisions.model_threshold import outdated_exports
from imbtune.inference.evaluating.evaluate_model import (
    SUFFIXES,
    EvaluationResult,
    evaluate_model,
)
from imbtune.inference.evaluating.images_at_hand import images_to_check
from imbtune.inference.evaluating.labelled_data import LabelledImages, labelled_images
from imbtune.inference.evaluating.split_remedy import SPLITS, TEST
from imbtune.inference.example_tables import count_known
from imbtune.inference.loading import load_model
from imbtune.inference.model_folder import THRESHOLD, is_model_folder, read_manifest
from imbtune.inference.onnx_export import (
    FORMATS,
    ExportedModel,
    check_libraries,
    export_onnx,
)
from imbtune.inference.onnx_metadata import SUFFIX
from imbtune.inference.predicting.image_inputs import images_at
from imbtune.inference.predicting.predict_images import PredictedImages, predict_images
from imbtune.inference.predicting.prediction_file import check_new_file
from imbtune.inference.trained_model import TrainedModel
from imbtune.limits import check_whole
from imbtune.metrics.defined import check_telling
from imbtune.metrics.metric import Metric, check_given_once, metric_from
from imbtune.metrics.number_text import as_text
from imbtune.paths import local_path
from imbtune.storage import Store
from imbtune.training.state import pick_device

CHECKED_IMAGES = 256  # of a data set, that an export is compared on
MOST_RESAMPLES = 10_000

UNUSED_THRESHOLD = "the threshold in {} was chosen for the model of its first seed alone"
Model = TrainedModel | str | Path
MetricSetting = str | Mapping[str, Any]


def predict(
    model: Model,
    images: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    top: int = 1,
    prior: Prior | None = None,
    threshold: float | None = None,
    resize: bool = False,
    seed: int | None = None,
    ensemble: bool = False,
    trust: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> PredictedImages:
    """Predict image files; one that cannot be read is a row with its error.

    For pixels in memory there are `TrainedModel.predict` and `predict_proba`.

    Args:
        model: a model (`imbtune.load_model`), or its folder.
        images: a folder, which is searched with those below it; an image; a `.txt` or `.lst` file
            with a path per line; Parquet with encoded images; or a list of paths.
        out: a new file that ends in .parquet or .csv, which is written while predicting, so that
            any number of images is possible; None to keep the rows in memory.
        top: how many of the most probable classes have columns of their own, from 1 to all.
        prior: shares or counts of each class where the model is used: a mapping, a text
            `cat=90,dog=10`, `balanced`, or a JSON, YAML or CSV file; None for the probabilities
            as the loss trained them, which are for no given mix.
        threshold: of two classes: the probability from which an image is of the positive one; None
            for the model's own, if it has one.
        resize: scale and centre-crop images of another size, also where the training did not.
        seed: of a folder with several seeds; None for the first one.
        ensemble: all seeds of the folder as one model.
        trust: run plugins of the model that this user has not run before.
        progress: is called with the number of images so far, and of all of them if it is known.

    Returns:
        Counts, notes, and the rows as a DataFrame (`table`).

    Raises:
        ImbtuneError: an argument that cannot be used, no model or no images.
    """
    check_given(model, prior=prior)
    check_whole("top", top, bounds=(1, 10**6))
    path = None if out is None else Path(local_path("--out", out))
    if path is not None:
        check_new_file(path)
    given = images_at(images)
    loaded = loaded_model(model, seed, ensemble, trust)
    _check_threshold_is_its_own(model, loaded, threshold)
    chosen = decision(loaded, prior, threshold)
    return predict_images(
        loaded, given, path, top=top, chosen=chosen, resize=resize, progress=progress
    )


def evaluate(
    model: Model,
    data: str | Path | None = None,
    *,
    split: str = TEST,
    dataset: str | None = None,
    prior: Prior | None = None,
    threshold: float | None = None,
    metrics: MetricSetting | Sequence[MetricSetting] = (),
    resamples: int | None = None,
    out: str | Path | None = None,
    skip_corrupt: bool = False,
    resize: bool = False,
    seed: int | None = None,
    ensemble: bool = False,
    trust: bool = False,
) -> EvaluationResult:
    """Every metric of a model on labelled images, with a 95 % interval.

    The arguments that are not listed are those of :func:`predict`.

    Args:
        data: folder or file, as for a search; None for $IMBTUNE_DATA, else where the training
            found them: at the place that the model's folder records, or downloaded. Classes are
            matched by name; the data may lack some, but not have others.
        split: `test`: the test set, as the training made it; `all`: every image, for data that the
            training did not see; `train`: the images that it was trained on.
        dataset: the data set whose layout `data` has, such as `folder`, `parquet` or `npz`; None
            for the model's own, or the layout that is found.
        metrics: metrics with other knobs than those of the search that found the model, or than
            the defaults: `{"name": "recall_at_precision", "precision": 0.95}`, or a list of such
            ones; each metric once.
        resamples: for the standard errors, at least 2; None for 200, and fewer for many images; 0
            for no intervals.
        out: a new file for the result, which ends in .json or .parquet.
        skip_corrupt: leave out images that cannot be read.

    Returns:
        The metrics (`metrics`) and classes (`table`) as DataFrames, the confusion matrix, notes.

    Raises:
        ImbtuneError: an argument that cannot be used, no model or no labelled images.
    """
    check_given(model, data, split, dataset, prior)
    check_whole("resamples", resamples, optional=True, bounds=(0, MOST_RESAMPLES))
    if resamples == 1:
        raise ConfigError("--resamples 1: one has no spread: give at least 2, or 0 for none")
    path = None if out is None else Path(local_path("--out", out))
    if path is not None:
        check_new_file(path, SUFFIXES)
    if not isinstance(metrics, str | Mapping | list | tuple):
        raise ConfigError(f"metrics {shown(metrics)}: give a metric, or a list of metrics")
    settings = [metrics] if isinstance(metrics, str | Mapping) else metrics
    measured = [metric_from(setting, "--metric") for setting in settings]
    check_given_once(measured, "--metric")
    loaded = loaded_model(model, seed, ensemble, trust)
    _check_threshold_is_its_own(model, loaded, threshold)
    for metric in measured:
        check_telling(metric, len(loaded.classes), "--metric")
    chosen = decision(loaded, prior, threshold)
    images = labelled_images(
        loaded, data, split=split, dataset=dataset, skip_corrupt=skip_corrupt, resize=resize
    )
    if threshold is None and (note := _other_knobs(loaded, measured)):
        images = replace(images, notes=(*images.notes, note))
    if threshold is None and (note := _was_chosen_here(loaded, images)):
        images = replace(images, notes=(*images.notes, note))
    result = evaluate_model(loaded, images, chosen, resamples, measured)
    if path is not None:
        result.write(path)
    return result


def _was_chosen_here(model: TrainedModel, images: LabelledImages) -> str:
    """A note where the model's threshold was chosen on some of the images; else empty."""
    own = model.threshold
    if own is None or not (count := count_known(images.hashes, own.image_hashes)):
        return ""
    these = "these images" if count == len(images.hashes) else ""
    these = these or f"{count:,} of these {len(images.hashes):,} images"
    return (
        f"the model's threshold was chosen on {these}, so the metrics of the predicted classes are "
        f"optimistic: of other images, {own.quantity} is expected to be {as_text(own.corrected)}"
    )


def _other_knobs(model: TrainedModel, measured: Sequence[Metric]) -> str:
    """A note where the threshold's metric is evaluated with other knobs; else empty."""
    if (own := model.threshold) is None:
        return ""
    best_for = metric_from(own.metric)
    used = {metric.name: metric for metric in [*model.objectives, *measured]}
    in_table = used.get(best_for.name) or metric_from(best_for.name)
    counts = own.class_counts
    if in_table.title(counts) == best_for.title(counts):
        return ""
    return (
        f"the table has {in_table.title(counts)}, and the threshold was chosen for "
        f"{best_for.title(counts)}: --metric {shlex.quote(best_for.text())} evaluates that"
    )


def export(
    model: Model,
    out: str | Path,
    *,
    to: str = FORMATS[0],
    data: str | Path | None = None,
    unchecked: bool = False,
    seed: int | None = None,
    ensemble: bool = False,
    trust: bool = False,
) -> ExportedModel:
    """Write a model as one ONNX file that any runtime uses without imbtune.

    It maps uint8 images (N, C, H, W) of the model's size to probabilities and class indices. Before
    it gets its name, it is compared with the model in onnxruntime, on images of the model's data.
    The arguments that are not listed are those of :func:`predict`.

    Args:
        out: a new file that ends in .onnx.
        to: the format: `onnx`. It needs the extra: `pip install 'imbtune[onnx]'`.
        data: images for the comparison, with labels or without; of a published data set the test
            images are taken. None for the test images in $IMBTUNE_DATA, or where the training had
            them.
        unchecked: where no images are at hand, compare it on random pixels.

    Raises:
        ImbtuneError: a library is missing, there are no images, or the file does not give what the
            model gives; then none is written.
    """
    check_given(model, data)
    if to not in FORMATS:
        raise ConfigError(f"--to {shown(to)}: give onnx (formats that load a pickle are not made)")
    path = Path(local_path("--out", out))
    check_new_file(path, (SUFFIX,))
    check_libraries()
    loaded = loaded_model(model, seed, ensemble, trust)
    try:
        images = images_to_check(loaded, data, CHECKED_IMAGES)
    except DataError:
        if data is not None or not unchecked:
            raise
        images = None
    exported = export_onnx(loaded, path, images)
    unused = (UNUSED_THRESHOLD.format(model),) if has_other_threshold(model, loaded) else ()
    return replace(exported, outdated=tuple(outdated_exports(loaded)), notes=unused)


def has_other_threshold(model: Model, loaded: TrainedModel) -> bool:
    """Whether the model's folder has a threshold, and the seed or ensemble that was loaded none.

    Args:
        model: as the user gives it.
        loaded: what was loaded of it.
    """
    if isinstance(model, TrainedModel) or loaded.threshold is not None:
        return False
    store = Store(local_path("the model", model))
    return is_model_folder(store) and THRESHOLD in read_manifest(store).files


def _check_threshold_is_its_own(
    model: Model, loaded: TrainedModel, threshold: float | None
) -> None:
    """ConfigError where the user may expect the folder's threshold, which is of another model."""
    if threshold is None and has_other_threshold(model, loaded):
        raise ConfigError(
            f"{UNUSED_THRESHOLD.format(model)}: give --threshold, too (0.5 for the more probable "
            "class)"
        )


def check_given(
    model: Model,
    data: str | Path | None = None,
    split: str | None = None,
    dataset: str | None = None,
    prior: Prior | None = None,
) -> None:
    """ConfigError for what cannot be meant, whatever the model is: such as an empty text."""
    if not isinstance(model, TrainedModel):
        local_path("the model", model)
    if data is not None:
        local_path("--data", data)
    if split is not None and split not in SPLITS:
        raise unknown("split", split, SPLITS)
    for option, text in {"--dataset": dataset, "--prior": prior}.items():
        if isinstance(text, str) and not text.strip():
            raise ConfigError(f"{option} {text!r}: it is empty: give a value, or leave it out")


def loaded_model(
    model: Model, seed: int | None, ensemble: bool, trust: bool, with_threshold: bool = True
) -> TrainedModel:
    """The model, on this machine's first GPU if it has one."""
    if isinstance(model, TrainedModel):
        if seed is not None or ensemble:
            raise ConfigError("seed and ensemble go with the folder of a model: leave them out")
        return model
    found = load_model(model, seed, ensemble=ensemble, trust=trust, with_threshold=with_threshold)
    found.network.to(pick_device())
    return found
