"""The threshold of a model of two classes, as the command and the Python API choose it.

`import imbtune` gives these functions their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbtune.data.data_source import data_root
from imbtune.errors import ConfigError, DataError, NotTrainableError
from imbtune.inference.decisions.model_threshold import (
    choose_for_model,
    delete_threshold,
    outdated_exports,
    store_threshold,
    stored_threshold,
)
from imbtune.inference.decisions.threshold import Threshold, check_two_classes
from imbtune.inference.decisions.threshold_choice import threshold_metric
from imbtune.inference.evaluating.labelled_data import dataset_name, labelled_images
from imbtune.inference.evaluating.split_remedy import ALL, USER_DATA, set_sizes
from imbtune.inference.trained_model import EnsembleNetwork, TrainedModel
from imbtune.inference.use_model import Model, check_given, loaded_model
from imbtune.paths import local_path


@dataclass(frozen=True)
class ThresholdChange:
    """What :func:`change_threshold` did.

    Attributes:
        chosen: the threshold that is best for the metric.
        before: that of the folder until now; None for the more probable class.
        is_stored: whether it is in the folder now.
        outdated: exports in the folder that have another threshold than the model has now.
        notes: messages for the user about the images, as :func:`evaluate` has them.
    """

    chosen: Threshold
    before: Threshold | None
    is_stored: bool
    outdated: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def choose_threshold(
    model: Model,
    metric: str | Mapping[str, Any],
    data: str | Path | None = None,
    *,
    split: str | None = None,
    dataset: str | None = None,
    skip_corrupt: bool = False,
    resize: bool = False,
    store: bool = True,
    seed: int | None = None,
    trust: bool = False,
) -> Threshold:
    """Choose the threshold of a model of two classes for a metric, and store it in its folder.

    It is stored if it is expected to be better on other images than the more probable class, and
    than one class for every image (`Threshold.gains`); `predict`, `evaluate` and `export` use it
    from then on. The arguments that are not listed are those of :func:`evaluate`.

    Args:
        metric: of the predicted classes, such as `f_beta`, `balanced_accuracy`,
            `{"name": "expected_cost", "costs": {"fraud": {"normal": 20}}}` (an error that is not
            named costs 1) or `{"name": "recall_at_precision", "precision": 0.9}`.
        data: labelled images that the training did not see; None for those of the calibration,
            which the training kept.
        split: of `data`; it must be given where they have a training and a test set, since a
            threshold that is chosen on the test set makes the metrics there optimistic.
        store: write `threshold.json` into the model's folder.

    Raises:
        ImbtuneError: a model of more classes, a metric that no threshold changes, no such images,
            or some that it was trained on.
    """
    return change_threshold(
        model,
        metric,
        data,
        split=split,
        dataset=dataset,
        skip_corrupt=skip_corrupt,
        resize=resize,
        store=store,
        seed=seed,
        trust=trust,
    ).chosen


def change_threshold(
    model: Model,
    metric: str | Mapping[str, Any],
    data: str | Path | None = None,
    *,
    split: str | None = None,
    dataset: str | None = None,
    skip_corrupt: bool = False,
    resize: bool = False,
    store: bool = True,
    seed: int | None = None,
    trust: bool = False,
) -> ThresholdChange:
    """As :func:`choose_threshold`, and says what was there before."""
    check_given(model, data, split, dataset)
    threshold_metric(metric)
    if data is None and (split or dataset):
        raise ConfigError("--split and --dataset go with --data: give it, or leave them out")
    loaded = loaded_model(model, seed, False, trust, with_threshold=False)  # it is replaced
    check_two_classes(loaded.classes)
    if store:
        _check_no_ensemble(loaded, "choose one with store=False")
    images = None
    if data is not None:
        chosen = split or _only_set(loaded, data, dataset)
        images = labelled_images(
            loaded, data, split=chosen, dataset=dataset, skip_corrupt=skip_corrupt, resize=resize
        )
        if images.trained:
            raise DataError(
                f"--data {data}: {images.trained_words}, and a threshold needs images that it has "
                "not seen: give others, or leave --data out for those that imbtune train "
                "--calibrate kept"
            )
    found = choose_for_model(loaded, metric, images)
    before, notes = stored_threshold(loaded), images.notes if images else ()
    if not (store and found.gains):
        return ThresholdChange(found, before, False, notes=notes)
    store_threshold(loaded, found)
    return ThresholdChange(found, before, True, tuple(outdated_exports(loaded)), notes)


def _check_no_ensemble(model: TrainedModel, remedy: str) -> None:
    """ConfigError for an ensemble: the threshold in its folder is of the first seed's model."""
    if isinstance(model.network, EnsembleNetwork):
        raise ConfigError(
            f"an ensemble stores no threshold, since that in {model.path} is of the model of its "
            f"first seed: {remedy}"
        )


def _only_set(model: TrainedModel, data: str | Path, dataset: str | None) -> str:
    """The split of data that have one set of images only; ConfigError for others."""
    root = data_root(Path(local_path("--data", data)))
    assert root is not None, "it is given"
    name = dataset or dataset_name(model, root)
    try:
        if name in USER_DATA and len(set_sizes(root, name)) == 1:
            return ALL
    except NotTrainableError:  # of two sets
        pass
    raise ConfigError(
        f"--data {data} has a training and a test set: give --split, too (all for data that the "
        "training did not see, or test)"
    )


def remove_threshold(
    model: Model, *, seed: int | None = None, trust: bool = False
) -> tuple[Path, ...]:
    """Remove the threshold from a model's folder: the more probable class is predicted again.

    Returns:
        The exports in the folder that still have it.

    Raises:
        ImbtuneError: no model, or one without a threshold.
    """
    check_given(model)
    loaded = loaded_model(model, seed, False, trust, with_threshold=False)
    _check_no_ensemble(loaded, "give one seed's model")
    delete_threshold(loaded)
    if isinstance(model, TrainedModel):
        model.threshold = None
    return tuple(outdated_exports(loaded))
