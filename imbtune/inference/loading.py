"""Loads a trained model from its folder, or from a file of an older version."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from imbtune import strict_json
from imbtune.config.plugins import load_plugins
from imbtune.config.train_config import TrainConfig
from imbtune.config.trust import consent
from imbtune.config.yaml_files import parse_yaml
from imbtune.errors import ConfigError, DamagedFileError, ImbtuneError, StudyError, some_of
from imbtune.inference.calibration import Calibration
from imbtune.inference.decisions.threshold import Threshold
from imbtune.inference.model_folder import (
    CALIBRATION,
    CONFIG,
    LABELS,
    MANIFEST,
    METRICS,
    PREPROCESS,
    RESTORE,
    THRESHOLD,
    WEIGHTS,
    Manifest,
    is_model_folder,
    read_file,
    read_files,
    read_manifest,
)
from imbtune.inference.preprocess import Preprocess, was_cropped
from imbtune.inference.trained_model import EnsembleNetwork, TrainedModel
from imbtune.limits import check_whole
from imbtune.methods.losses import MarginSoftmax
from imbtune.metrics.metric import objectives_of
from imbtune.paths import local_path
from imbtune.storage import Store
from imbtune.training.model import new_model

NOT_A_MODEL = (  # what torch.load raises for other files, and what their content lacks
    UnpicklingError,
    KeyError,
    TypeError,
    RuntimeError,
    AttributeError,
    EOFError,
    ValueError,
    OSError,
)
UNFINISHED = "training.json"  # in the folder of a training that has not ended
STUDY, WINNER = "study.yaml", "best.yaml"  # files of a study's folder
WRONG_CONTENT = (LookupError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError)


def load_model(
    path: str | Path,
    seed: int | None = None,
    *,
    ensemble: bool = False,
    trust: bool = False,
    with_threshold: bool = True,
) -> TrainedModel:
    """A model that `imbtune train` wrote.

    Where it was trained with plugins, the Python files beside it are run, or their modules
    imported: those that this user has run before, others with `trust` alone.

    Args:
        path: the model's folder, or a file of an older version (`model-seed0.pt`).
        seed: of a folder with several seeds; None for the first one.
        ensemble: all seeds of the folder as one model, whose probabilities are the mean of theirs.
        trust: run plugins that this user has not run before. Read them first: they can do
            whatever this user can.
        with_threshold: False to leave out the threshold of two classes, which then may be damaged:
            the more probable class is predicted.

    Raises:
        StudyError: no model there, or one that is not complete.
        DamagedFileError: a file of it is missing or changed.
        UntrustedError: it has plugins that may not run.
        ConfigError: a later version of imbtune wrote it, or a file that is no model of imbtune's.
    """
    check_whole("seed", seed, optional=True)
    place = Path(local_path("the model", path))
    with consent(trust):
        if place.is_file():
            return _load_file(place, seed, ensemble)
        if not place.is_dir():
            raise StudyError(
                f"there is no model at {place}: give the folder that imbtune train wrote"
            )
        if (place / STUDY).exists() and not is_model_folder(Store(str(place))):
            raise StudyError(f"{place} is a study, not a model: {_model_of_study(place)}")
        if is_model_folder(Store(str(place))):
            if ensemble:
                return _load_ensemble(place, seed)
            return _load_seed(place, seed, with_threshold)
        return _load_file(_file_of_seed(place, seed), None, ensemble)


def loss_scale(config: TrainConfig, counts: Sequence[int]) -> float:
    """s of the loss, by which its softmax multiplies the logits (30 for LDAM, 1 for most).

    Args:
        config: names the loss.
        counts: training images of each class, on which the s of a user's loss may depend.
    """
    loss = config.loss.make(torch.tensor(counts, dtype=torch.float32))
    return float(loss.scale) if isinstance(loss, MarginSoftmax) else 1.0


def seed_folders(folder: Path) -> dict[int, Path]:
    """The folders of each seed's model in the folder of a training: the first seed's is itself.

    Raises:
        ImbtuneError: the first seed's model is not whole, or that of another one is missing.
    """
    first, *others = _runs(folder)
    found = {first: folder} | {seed: folder / f"seed{seed}" for seed in others}
    for path in found.values():
        if not path.is_dir():
            raise DamagedFileError(f"{path} is missing: {RESTORE}")
    return found


def _runs(folder: Path) -> dict[int, dict[str, Any]]:
    """What a model's folder says of each run of its training, by seed; its own is the first."""
    store = Store(str(folder))
    with _whole_files(folder, manifest := read_manifest(store)):
        runs = strict_json.loads(read_file(store, manifest, METRICS))["runs"]
        return {int(run["seed"]): dict(run) for run in runs}


def _check_seed(first: Path, path: Path, seed: int) -> None:
    """Check that a seed's folder has the model that was trained with the first one.

    Raises:
        ConfigError: it has another model, such as that of another seed.
    """
    if path == first:
        return
    own = next(iter(_runs(path).values()))
    if own != _runs(first)[seed]:
        raise ConfigError(
            f"{path} has another model than that of seed {seed}, which was trained with {first}: "
            f"{RESTORE}"
        )


def _load_seed(folder: Path, seed: int | None, with_threshold: bool) -> TrainedModel:
    if seed is None:
        return _load_folder(folder, with_threshold)
    found = seed_folders(folder)
    if seed not in found:
        have = f"seed{'s' * (len(found) > 1)} {', '.join(map(str, sorted(found)))}"
        raise StudyError(f"{folder} does not have a model of seed {seed}: it has {have}")
    _check_seed(folder, found[seed], seed)
    return _load_folder(found[seed], with_threshold)


def _load_ensemble(folder: Path, seed: int | None) -> TrainedModel:
    """All seeds as one model."""
    if seed is not None:
        raise ConfigError(f"seed {seed} and ensemble, which is all seeds: give one of them")
    found = seed_folders(folder)
    if len(found) == 1:
        raise StudyError(
            f"{folder} has one seed, and an ensemble needs several: train with --seeds 5, or leave "
            "the ensemble out"
        )
    for of_seed, path in found.items():
        _check_seed(folder, path, of_seed)
    models = [_load_folder(path, with_threshold=False) for path in found.values()]
    first = models[0]
    network = EnsembleNetwork(
        [m.network for m in models], [m.scale / m.temperature for m in models]
    )
    store = Store(str(folder))
    with _whole_files(folder, manifest := read_manifest(store)):
        fitted = strict_json.loads(read_file(store, manifest, CALIBRATION)).get("ensemble")
        calibration = Calibration.from_json(fitted) if fitted else None
    return TrainedModel(
        network,
        classes=first.classes,
        preprocess=first.preprocess,
        scale=1.0,
        config=first.config,
        calibration=calibration,
        path=folder,
        train_K=first.train_K,
        objectives=first.objectives,
        data=first.data,
    )


def _load_folder(folder: Path, with_threshold: bool = True) -> TrainedModel:
    """The model of one folder."""
    store = Store(str(folder))
    manifest = read_manifest(store)
    files = read_files(store, manifest, without="" if with_threshold else THRESHOLD)
    with _whole_files(folder, manifest):
        return _from_files(folder, store, files)


@contextmanager
def _whole_files(folder: Path, manifest: Manifest) -> Iterator[None]:
    """Within the block, an error in the content of whole files becomes one that names them."""
    try:
        yield
    except DamagedFileError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error}") from error
    except (ImbtuneError, OSError):
        raise
    except WRONG_CONTENT as error:
        raise _not_understood(folder, manifest) from error


def _from_files(folder: Path, store: Store, files: dict[str, bytes]) -> TrainedModel:
    settings = parse_yaml(CONFIG, files[CONFIG].decode())
    load_plugins(settings.pop("imports", None), store)
    settings.pop("provenance", None)
    config = TrainConfig.from_nested(settings)
    labels = strict_json.loads(files[LABELS])
    classes = [str(name) for name in labels["classes"]]
    preprocess = Preprocess.from_json(strict_json.loads(files[PREPROCESS]))
    calibration = Calibration.from_json(strict_json.loads(files[CALIBRATION]))
    network = _network(config, preprocess.channels, len(classes))
    network.load_state_dict(safetensors.torch.load(files[WEIGHTS]))
    scale = loss_scale(config, labels["training_images"])
    train_K = np.array([int(n) for n in labels["training_images"]], dtype=np.int64)
    if train_K.shape != (len(classes),):
        raise ValueError("labels.json has another number of classes than training_images")
    threshold = None
    if THRESHOLD in files:
        threshold = Threshold.from_dict(strict_json.loads(files[THRESHOLD]), classes)
    metrics = strict_json.loads(files[METRICS])
    return TrainedModel(
        network,
        classes=classes,
        preprocess=preprocess,
        scale=scale,
        config=config,
        calibration=calibration,
        path=folder,
        train_K=train_K,
        threshold=threshold,
        objectives=objectives_of(metrics["provenance"]),
        data=metrics.get("data"),
    )


def _not_understood(folder: Path, manifest: Manifest) -> ConfigError:
    """The error for a folder whose files are whole, and yet no model."""
    missing = [n for n in (WEIGHTS, CONFIG, LABELS, PREPROCESS) if n not in manifest.files]
    what = f"it lacks {missing[0]}" if missing else "its files do not fit together"
    return ConfigError(
        f"{folder} is not a model that imbtune wrote, {what}: {RESTORE} (imbtune "
        f"{manifest.imbtune} wrote its manifest.json)"
    )


def _network(config: TrainConfig, channels: int, classes: int) -> nn.Module:
    """A network whose weights are about to be loaded; the random numbers of others stay."""
    with torch.random.fork_rng(devices=[]):
        return new_model(config, channels, classes)


def _load_file(file: Path, seed: int | None, ensemble: bool) -> TrainedModel:
    """A file of an older version."""
    if seed is not None:
        raise ConfigError(f"{file} is one file, so leave seed={seed} out, or give its folder")
    if ensemble:
        raise ConfigError(f"{file} is a file of an older version: train again for an ensemble")
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        load_plugins(saved.get("imports"), Store(str(file.parent)))
        config = TrainConfig.from_settings(saved["settings"])
        classes = saved["classes"]
        network = _network(config, len(saved["mean"]), len(classes))
        network.load_state_dict(saved["state_dict"])
        shape = tuple(saved["image_shape"]) if saved.get("image_shape") else None
    except ImbtuneError:
        raise
    except NOT_A_MODEL as error:
        hint = "give another file"
        if is_model_folder(Store(str(file.parent))):
            hint = f"give the model's folder, {file.parent}"
        raise ConfigError(f"{file} is not a model that imbtune wrote: {hint}") from error
    preprocess = Preprocess(tuple(saved["mean"]), tuple(saved["std"]), shape, was_cropped(config))
    scale = loss_scale(config, [1] * len(classes))  # older files do not have the counts
    return TrainedModel(network, classes=classes, preprocess=preprocess, scale=scale, config=config)


def _model_of_study(study: Path) -> str:
    """How a user comes from a study to a model."""
    inside = _models_in(study)
    if inside:
        return f"give a model in it, {some_of(map(str, inside), 3)}"
    name = study.resolve().name
    out = str(Path("runs") / f"{name}-model")
    train = shlex.join(["imbtune", "train", str(study), "--out", out])
    if not (study / WINNER).exists():
        return f"it has no winner yet ({WINNER}); when it has, {train} trains it and leaves a model"
    return f"{train} trains its winner and leaves a model"


def _models_in(folder: Path) -> list[Path]:
    """Folders with a model directly in a folder."""
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))


def _file_of_seed(folder: Path, seed: int | None) -> Path:
    """The file of a seed in a folder of an older version; None for the lowest seed."""
    names = ((re.fullmatch(r"model-seed(\d+)\.pt", file.name), file) for file in folder.iterdir())
    files = {int(name[1]): file for name, file in names if name}
    chosen = files.get(min(files, default=0) if seed is None else seed)
    if chosen is None:
        which = "a model" if seed is None else f"a model of seed {seed}"
        seeds = ", ".join(map(str, sorted(files)))
        have = f"it has seeds {seeds}" if files else "give the folder that imbtune train wrote"
        if (folder / UNFINISHED).exists():
            have = "its training was interrupted, and the command that began it goes on"
        elif not files and (inside := _models_in(folder)):
            have = f"give a folder in it that has one, {some_of(map(str, inside), 3)}"
        raise StudyError(f"{folder} does not have {which}: {have}")
    return chosen
