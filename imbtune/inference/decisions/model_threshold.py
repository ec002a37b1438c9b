"""The threshold of a model's folder: chosen on held-out images, and stored.

Shapes: N images.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imbtune import strict_json
from imbtune.errors import ConfigError, DamagedFileError, DataError
from imbtune.inference.decisions.decision import check_finite, without_threshold
from imbtune.inference.decisions.threshold import Threshold, check_two_classes
from imbtune.inference.decisions.threshold_choice import choose_threshold, threshold_metric
from imbtune.inference.evaluating.evaluate_model import logits_of
from imbtune.inference.evaluating.labelled_data import LabelledImages
from imbtune.inference.example_tables import count_known
from imbtune.inference.model_card import THRESHOLD_ON_TEST, USED_ONCE
from imbtune.inference.model_folder import (
    CARD,
    MARGINS,
    SEED_FOLDER,
    THRESHOLD,
    change_files,
    is_model_folder,
    read_file,
    read_manifest,
    remove_file,
)
from imbtune.inference.onnx_metadata import SUFFIX, read_metadata
from imbtune.inference.trained_model import EnsembleNetwork, TrainedModel
from imbtune.metrics.predictions import ClassCounts, Ints
from imbtune.storage import Store

Floats = NDArray[np.float64]

CALIBRATION = "calibration"  # the split of these images in margins.parquet


def choose_for_model(
    model: TrainedModel, metric: object, images: LabelledImages | None = None
) -> Threshold:
    """The threshold of a model of two classes that is best for a metric.

    Args:
        metric: setting of the metric: a name, or a mapping of `name` and its knobs.
        images: labelled images that training did not see; None for those of the calibration.

    Raises:
        ConfigError: a model of more classes, a metric that no threshold changes, or a model without
            such images.
        DataError: the images have one class only.
        DivergenceError: the model's weights or logits are not finite.
    """
    check_two_classes(model.classes)
    chosen = threshold_metric(metric)
    train_K = np.ones(2, dtype=np.int64) if model.train_K is None else model.train_K
    of = str(chosen.knobs.get("of", ""))
    positive = ClassCounts(model.classes, train_K, np.ones(2, np.int64)).index(of)
    check_finite(model.network)
    if images is None:
        log_odds_N, labels_N = _of_calibration(model, positive)
        what = f"{len(labels_N):,} images of the calibration"
    else:
        logits_NK = without_threshold(model).logits(logits_of(model, images))
        log_odds_N = (logits_NK[:, positive] - logits_NK[:, 1 - positive]).numpy()
        labels_N = images.labels_N
        what = f"{len(labels_N):,} images ({images.kind})"
    if len(np.unique(labels_N)) < 2:
        raise DataError(f"{what} have one class only: a threshold needs images of both")
    counts = ClassCounts(model.classes, train_K, np.bincount(labels_N, minlength=2))
    found = choose_threshold(log_odds_N, labels_N, counts, chosen, positive, what)
    return replace(found, image_hashes=() if images is None else tuple(images.hashes))


def stored_threshold(model: TrainedModel) -> Threshold | None:
    """The threshold in the model's folder; None where there is none, or one that is damaged."""
    if model.path is None:
        return model.threshold
    store = Store(str(model.path))
    manifest = read_manifest(store)
    if THRESHOLD not in manifest.files:
        return None
    try:
        content = strict_json.loads(read_file(store, manifest, THRESHOLD))
        return Threshold.from_dict(content, model.classes)
    except (ConfigError, DamagedFileError, ValueError):
        return None


def store_threshold(model: TrainedModel, threshold: Threshold) -> None:
    """Write a threshold to the model's folder, in place of an earlier one, and use it from now.

    Raises:
        ConfigError: the model was not loaded from a folder.
        StudyError: the folder cannot be written.
    """
    content = strict_json.dumps(threshold.to_dict(), indent=1).encode()
    store = _folder_of(model)
    change_files(store, {THRESHOLD: content})
    test = _test_hashes(model)
    count = count_known(test, threshold.image_hashes)
    _tell_in_card(store, f"{count:,} of them" if 0 < count < len(test) else "them" * bool(count))
    model.threshold = threshold


def delete_threshold(model: TrainedModel) -> None:
    """Remove the threshold from the model's folder: it predicts the more probable class.

    Raises:
        ConfigError: the model was not loaded from a folder, or has no threshold.
        StudyError: the folder cannot be written.
    """
    store = _folder_of(model)
    if THRESHOLD not in read_manifest(store).files:
        raise ConfigError(f"{model.path} has no threshold: it predicts the more probable class")
    remove_file(store, THRESHOLD)
    _tell_in_card(store, "")
    model.threshold = None


def outdated_exports(model: TrainedModel) -> list[Path]:
    """The ONNX files of the model's seed whose threshold is not that of the model.

    They are looked for in the model's folder, and for another seed than the first one also in that
    of the training, into which `imbtune export --seed` writes.
    """
    if model.path is None or isinstance(model.network, EnsembleNetwork):
        return []  # an ensemble has no threshold, now or ever
    own = None if model.threshold is None else model.threshold.to_metadata()
    folders, training = [model.path], model.path.parent
    if SEED_FOLDER.fullmatch(model.path.name) and is_model_folder(Store(str(training))):
        folders.append(training)
    return [
        path
        for folder in folders
        for path in sorted(folder.glob(f"*{SUFFIX}"))
        if (metadata := read_metadata(path)) is not None
        and metadata.get("seed") == str(model.config.seed)
        and strict_json.loads(metadata.get("threshold", "null")) != own
    ]


def _folder_of(model: TrainedModel) -> Store:
    if model.path is None:
        raise ConfigError(
            "the model is a file of an older version, in which a threshold has no place: train it "
            "again"
        )
    return Store(str(model.path))


def _tell_in_card(store: Store, test_images: str) -> None:
    """Say in the model card on which of the test images the threshold was chosen.

    Args:
        test_images: the words for them; empty for none.
    """
    if not store.exists(CARD):
        return
    card = store.read(CARD).decode()
    before = re.escape(f" {THRESHOLD_ON_TEST}").replace(re.escape("{}"), "[^(]*")
    told = re.sub(before, "", card)
    if test_images:
        told = told.replace(USED_ONCE, f"{USED_ONCE} {THRESHOLD_ON_TEST.format(test_images)}")
    if told != card:
        store.write(CARD, told.encode())


def _test_hashes(model: TrainedModel) -> list[str]:
    """Of the test images of the training; empty where they are not known."""
    assert model.path
    try:
        table = pq.read_table(model.path / MARGINS)
    except (OSError, pa.ArrowException):
        return []
    if "pixel_hash" not in table.column_names:  # of an older version
        return []
    is_test = pc.equal(table["split"].cast(pa.string()), "test")
    hashes: list[str] = table.filter(is_test)["pixel_hash"].to_pylist()
    return hashes


def _of_calibration(model: TrainedModel, positive: int) -> tuple[Floats, Ints]:
    """Log-odds and classes of the images on which the temperature was fitted.

    Of two classes, the margin in logits of an image is the log-odds of its own class.
    """
    hint = (
        "give --data FOLDER --split all with labelled images that training did not see, or train "
        "it again with --calibrate 0.1"
    )
    if isinstance(model.network, EnsembleNetwork):
        raise ConfigError(
            "an ensemble has no margins of the images that were kept from training: choose the "
            "threshold of one seed's model, or give --data FOLDER --split all with labelled images "
            "that training did not see, and store=False"
        )
    if model.path is None or model.calibration is None:
        raise ConfigError(f"the model has no images that were kept from training: {hint}")
    path = model.path / MARGINS
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error}): restore it from a copy"
        ) from error
    if "logit_margin" not in table.column_names:
        raise ConfigError(f"{path} is of an older version: {hint}")
    kept = np.array([split == CALIBRATION for split in table["split"].to_pylist()], dtype=bool)
    if not kept.any():
        raise ConfigError(f"{path} has no images that were kept from training: {hint}")
    labels_N = table["label"].to_numpy()[kept].astype(np.int64)
    margin_N = table["logit_margin"].to_numpy()[kept] / model.temperature
    return np.where(labels_N == positive, margin_N, -margin_N), labels_N
