"""A trained model in use: from images to class names.

Shapes: N images, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from imbtune.config.train_config import TrainConfig
from imbtune.data.augment import normalise
from imbtune.errors import ConfigError, StudyError
from imbtune.inference.calibration import Calibration
from imbtune.inference.decisions.decision import Prior, decision, without_threshold
from imbtune.inference.decisions.label_shift import LabelShift
from imbtune.inference.decisions.threshold import Threshold
from imbtune.inference.model_folder import PREDICTIONS
from imbtune.inference.preprocess import Preprocess
from imbtune.metrics.metric import Metric

Ints = NDArray[np.int64]

BATCH = 256  # images that pass through the network at a time


class TrainedModel:
    """A network with all that its use needs: class names, preprocessing, scale and temperature.

    Attributes:
        network: maps normalised images (N, C, H, W) to logits (N, K), in evaluation mode. It is
            loaded on the CPU; after `network.to("cuda")` predictions are made there.
        classes: the name of each class.
        preprocess: how an image becomes the network's input.
        scale: s of the loss, by which its softmax multiplies the network's logits (30 for LDAM, 1
            for most).
        calibration: the fitted temperature, and on what it was fitted; None without one.
        config: the configuration that it was trained with; of an ensemble, that of its first seed.
        path: the folder that it was loaded from; None for a file of an older version.
        train_K: training images of each class, (K,); None for a file of an older version.
        threshold: the chosen operating point of a model of two classes; None for the more probable
            class.
        objectives: what the search that found the configuration maximised; empty without one.
        data: folder or file with the data of the training, on the machine that trained it; None
            for a download.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        classes: Sequence[str],
        preprocess: Preprocess,
        scale: float,
        config: TrainConfig,
        calibration: Calibration | None = None,
        path: Path | None = None,
        train_K: Ints | None = None,
        threshold: Threshold | None = None,
        objectives: Sequence[Metric] = (),
        data: str | None = None,
    ) -> None:
        self.network, self.config = network.eval(), config
        self.train_K, self.threshold = train_K, threshold
        self.objectives, self.data = tuple(objectives), data
        self.classes = list(classes)
        self.preprocess, self.calibration, self.scale = preprocess, calibration, scale
        self.path = path
        self._mean_C, self._std_C = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.image_shape or (self.preprocess.channels, "H", "W")))
        return (
            f"TrainedModel({self.config.model.name}, {len(self.classes)} classes, images {shape})"
        )

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of the images in training; None for a file of an older version."""
        return self.preprocess.image_shape

    @property
    def temperature(self) -> float:
        """What the logits are divided by before the softmax; 1 where none was fitted."""
        return self.calibration.temperature if self.calibration else 1.0

    @property
    def label_shift(self) -> LabelShift | None:
        """What the probabilities for a given class mix start from; None without a calibration."""
        return self.calibration.label_shift if self.calibration else None

    @property
    def example_names(self) -> list[str]:
        """The names of the test images, in the order of `predictions.parquet`.

        Raises:
            StudyError: a file of an older version, which has none.
        """
        if self.path is None:
            raise StudyError(
                "this model is a file of an older version, without the names of test images: "
                "margins-seedN.parquet beside it has them"
            )
        names: list[str] = pq.read_table(self.path / PREDICTIONS, columns=["image"])[0].to_pylist()
        return names

    def predict(self, images: ArrayLike) -> NDArray[np.str_]:
        """The name of the class that each image is predicted as, (N,).

        It is the most probable one; with a `threshold` the positive class from there on.

        Args:
            images: as those of :meth:`predict_proba`.
        """
        chosen = decision(self)
        label_N = chosen.classes(chosen.logits(self.logits(images)))
        names: NDArray[np.str_] = np.array(self.classes)[label_N.numpy()]
        return names

    def predict_proba(self, images: ArrayLike, prior: Prior | None = None) -> NDArray[np.float32]:
        """The probability of each class, (N, K), in the order of `classes`; rows sum to 1.

        They are the softmax of :meth:`logits`, divided by the temperature: those that the loss
        trained, for no class mix that is given. With `prior` they are for that one.

        Args:
            images: uint8 pixels, channels first (N, C, H, W) or last (N, H, W, C), or without
                channels (N, H, W) for grey images; of the size that the model was trained on.
            prior: counts or shares of the classes where the images come from, as
                `{"cat": 90, "dog": 10}`.

        Raises:
            ConfigError: another type or shape; a prior that cannot be used.
        """
        logits_NK = without_threshold(self, prior).logits(self.logits(images))
        probabilities: NDArray[np.float32] = logits_NK.softmax(1).float().numpy()
        return probabilities

    def logits(self, images: ArrayLike) -> Tensor:
        """The logits (N, K) whose softmax the loss trained: the network's, times the scale.

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
        return self.scale * torch.cat(blocks)

    def _channels_first(self, images: ArrayLike) -> Tensor:
        try:
            array = np.asarray(images)
        except ValueError as error:
            raise ConfigError(
                "images have different shapes: give one array, or predict their files with "
                "imbtune.predict"
            ) from error
        if array.size and array.dtype != np.uint8:  # an empty list becomes float64
            raise ConfigError(
                f"images are {array.dtype}: give uint8 pixels from 0 to 255, not normalised"
            )
        # torch wants an array that can be written to and has no negative strides
        pixels = torch.from_numpy(np.require(array, requirements=("C", "W")))
        channels = self.preprocess.channels
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
            "the same with channels last" + self._about_one_image(array.shape)
        )

    def _about_one_image(self, shape: tuple[int, ...]) -> str:
        if self.image_shape is None:
            return ""
        channels, *size = self.image_shape
        sizes = [(channels, *size), (*size, channels)] + [tuple(size)] * (channels == 1)
        return "; one image is images[None]" if shape in sizes else ""


class EnsembleNetwork(nn.Module):
    """Several networks as one, whose softmax is the mean of their probabilities.

    `forward` maps normalised images (B, C, H, W) to log mean_m softmax(s·z_m / T_m), (B, K), where
    s is the loss's scale and T_m the temperature of network m.

    Args:
        networks: at least one, for the same classes and images.
        scales: s / T of each.
    """

    def __init__(self, networks: Sequence[nn.Module], scales: Sequence[float]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.scales = list(scales)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits = [
            scale * network(images_BCHW).float()
            for network, scale in zip(self.networks, self.scales, strict=True)
        ]
        return mean_probabilities(logits)


def mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """The logarithms of the mean of several models' probabilities, (N, K).

    Args:
        logits: of each model, (N, K); their softmax is its probability.
    """
    logs_MNK = torch.stack([logits_NK.log_softmax(1) for logits_NK in logits])
    return logs_MNK.logsumexp(0) - math.log(len(logits))
