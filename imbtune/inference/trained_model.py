"""A trained model in use: from images to class names.

Shapes: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from imbtune.config.plugins import load_plugins
from imbtune.config.train_config import TrainConfig
from imbtune.config.trust import consent
from imbtune.data.augment import normalise
from imbtune.errors import ConfigError, ImbtuneError, StudyError
from imbtune.methods.losses import MarginSoftmax
from imbtune.models.networks import Classifier
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
BATCH = 256  # images that pass through the network at a time


class TrainedModel:
    """A network with all that its use needs: class names, preprocessing, the softmax's scale.

    Attributes:
        network: maps normalised images (N, C, H, W) to logits (N, K), in evaluation mode. It is
            loaded on the CPU; after `network.to("cuda")` predictions are made there.
        classes: the name of each class.
        image_shape: (C, H, W) of the images in training; None for a file of an older version.
        config: the configuration that it was trained with.
    """

    def __init__(
        self,
        network: Classifier,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        scale: float,
        image_shape: tuple[int, int, int] | None,
        config: TrainConfig,
    ) -> None:
        self.network, self.config = network.eval(), config
        self.classes = list(classes)
        self.image_shape = image_shape
        self._mean_C, self._std_C = torch.tensor(mean), torch.tensor(std)
        self._scale = scale

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.image_shape or (len(self._mean_C), "H", "W")))
        return (
            f"TrainedModel({self.config.model.name}, {len(self.classes)} classes, images {shape})"
        )

    def predict(self, images: ArrayLike) -> NDArray[np.str_]:
        """The name of the most probable class of each image, (N,).

        Args:
            images: as those of :meth:`predict_proba`.
        """
        names: NDArray[np.str_] = np.array(self.classes)[self.logits(images).argmax(1).numpy()]
        return names

    def predict_proba(self, images: ArrayLike) -> NDArray[np.float32]:
        """The probability of each class, (N, K), in the order of `classes`; rows sum to 1.

        They are the softmax that the loss trained, scale included. They are not calibrated.

        Args:
            images: uint8 pixels, channels first (N, C, H, W) or last (N, H, W, C), or without
                channels (N, H, W) for grey images; of the size that the model was trained on.

        Raises:
            ConfigError: another type or shape.
        """
        probabilities: NDArray[np.float32] = self.logits(images).softmax(1).numpy()
        return probabilities

    def logits(self, images: ArrayLike) -> Tensor:
        """The logits (N, K) whose softmax is :meth:`predict_proba`.

        Args:
            images: as those of :meth:`predict_proba`.
        """
        pixels_NCHW = self._channels_first(images)
        if not len(pixels_NCHW):
            return torch.zeros(0, len(self.classes))
        device = next(self.network.parameters()).device
        mean_C, std_C = self._mean_C.to(device), self._std_C.to(device)
        with torch.inference_mode():
            blocks = [
                self.network(normalise(block.to(device), mean_C, std_C)).float().cpu()
                for block in pixels_NCHW.split(BATCH)
            ]
        return self._scale * torch.cat(blocks)

    def _channels_first(self, images: ArrayLike) -> Tensor:
        array = np.asarray(images)
        if array.dtype != np.uint8:
            raise ConfigError(
                f"images are {array.dtype}: give uint8 pixels from 0 to 255, not normalised"
            )
        # torch wants an array that can be written to and has no negative strides
        pixels = torch.from_numpy(np.require(array, requirements=("C", "W")))
        channels = len(self._mean_C)
        if pixels.ndim == 3 and channels == 1:
            pixels = pixels[:, None]
        sizes = [self.image_shape] if self.image_shape else []
        if pixels.ndim == 4:
            first, last = tuple(pixels.shape[1:]), tuple(pixels.permute(0, 3, 1, 2).shape[1:])
            if first in sizes or (not sizes and first[0] == channels):
                return pixels
            if last in sizes or (not sizes and last[0] == channels):
                return pixels.permute(0, 3, 1, 2)
        wanted = self.image_shape or (channels, "H", "W")
        raise ConfigError(
            f"images of shape {array.shape}: give (N, {', '.join(map(str, wanted))}), or "
            "the same with channels last"
        )


def load_model(path: str | Path, seed: int | None = None, *, trust: bool = False) -> TrainedModel:
    """A model that `imbtune train` wrote.

    Where it was trained with plugins, the Python files beside it are run, or their modules
    imported: those that this user has run before, others with `trust` alone.

    Args:
        path: a model file (`model-seed0.pt`), or the folder with the files of one or more seeds.
        seed: of the file in a folder; None for the lowest.
        trust: run plugins that this user has not run before. Read them first: they can do
            whatever this user can.

    Raises:
        StudyError: no model there.
        UntrustedError: it has plugins that may not run.
        ConfigError: a file that is no model of imbtune's.
    """
    file = _find(Path(local_path("the model", path)), seed)
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
        with consent(trust):
            load_plugins(saved.get("imports"), Store(str(file.parent)))
        config = TrainConfig.from_settings(saved["settings"])
        network = new_model(config, len(saved["mean"]), len(saved["classes"]))
        network.load_state_dict(saved["state_dict"])
    except ImbtuneError:
        raise
    except NOT_A_MODEL as error:
        raise ConfigError(f"{file} is not a model that imbtune wrote: give another file") from error
    shape = saved.get("image_shape")
    return TrainedModel(
        network,
        saved["classes"],
        saved["mean"],
        saved["std"],
        loss_scale(config, len(saved["classes"])),
        tuple(shape) if shape else None,
        config,
    )


def loss_scale(config: TrainConfig, classes: int) -> float:
    """s of the loss, by which its softmax multiplies the logits (30 for LDAM, 1 for most)."""
    loss = config.loss.make(torch.ones(classes))
    return float(loss.scale) if isinstance(loss, MarginSoftmax) else 1.0


def _find(path: Path, seed: int | None) -> Path:
    """The model file at `path`, or in the folder `path`."""
    if path.is_file():
        if seed is not None:
            raise ConfigError(f"{path} is one file, so leave seed={seed} out, or give its folder")
        return path
    if not path.is_dir():
        raise StudyError(f"there is no model at {path}: give the folder that imbtune train wrote")
    names = ((re.fullmatch(r"model-seed(\d+)\.pt", file.name), file) for file in path.iterdir())
    files = {int(name[1]): file for name, file in names if name}
    chosen = files.get(min(files, default=0) if seed is None else seed)
    if chosen is None:
        which = "a model" if seed is None else f"a model of seed {seed}"
        seeds = ", ".join(map(str, sorted(files)))
        have = f"it has seeds {seeds}" if files else "run imbtune train with --out there"
        raise StudyError(f"{path} does not have {which}: {have}")
    return chosen
