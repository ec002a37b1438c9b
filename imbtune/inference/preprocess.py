"""How an image becomes the input of a trained network: `preprocess.json` of its folder.

Shapes: C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imbtune.config.train_config import TrainConfig
from imbtune.data.decoding import Decoder

ORDER = {1: "grey", 3: "RGB"}  # of the channels


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before the network sees it.

    Attributes:
        mean: of each channel, of pixels in [0, 1]; C values.
        std: standard deviation of each channel, of pixels in [0, 1].
        image_shape: (C, H, W); None for a model of an older version, which does not say it.
        crop: whether images of other sizes were scaled and centre-cropped for the training; else
            all of them had this size.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_shape: tuple[int, int, int] | None
    crop: bool = False

    @classmethod
    def of(
        cls, config: TrainConfig, image_shape: Sequence[int], mean: Sequence[float], std: Any
    ) -> Preprocess:
        """That of a training.

        Args:
            config: says whether the images were cropped.
            image_shape: (C, H, W).
            mean: of each channel.
            std: of each channel.
        """
        channels, height, width = image_shape
        return cls(tuple(mean), tuple(std), (channels, height, width), was_cropped(config))

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def decoder(self) -> Decoder:
        """Decodes image files as the training did, to uint8 pixels (C, H, W).

        Where the training did not crop, a file of another size is a WrongSizeError.
        """
        assert self.image_shape, "a model of an older version"
        return Decoder(*self.image_shape, crop=self.crop)

    def to_json(self) -> dict[str, object]:
        """The content of `preprocess.json`: all that a program without imbtune needs."""
        assert self.image_shape, "only older versions write a model without it"
        channels, height, width = self.image_shape
        return {
            "height": height,
            "width": width,
            "channels": channels,
            "channel_order": ORDER.get(channels, "as in the data"),
            "layout": "NCHW",
            "decode": {
                "library": "Pillow",
                "orientation": "as the EXIF tag says",
                "transparent_pixels": "laid on white",
                "grey_of_16_bits": "(value * 255 + 32767) // 65535",
                "several_frames": "the first one",
            },
            "resize": {
                "how": "the largest centred crop of this aspect ratio, scaled (PIL.ImageOps.fit)",
                "interpolation": "bilinear",
                "antialias": True,
            }
            if self.crop
            else None,
            "pixels": {"type": "uint8", "low": 0, "high": 255},
            "normalise": {
                "formula": "(pixel / 255 - mean) / std",
                "mean": list(self.mean),
                "std": list(self.std),
            },
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preprocess:
        """The inverse of :meth:`to_json`; LookupError or TypeError for other content."""
        normal = content["normalise"]
        shape = (int(content["channels"]), int(content["height"]), int(content["width"]))
        crop = content["resize"] is not None
        mean, std = (tuple(float(v) for v in normal[key]) for key in ("mean", "std"))
        return cls(mean, std, shape, crop)


def was_cropped(config: TrainConfig) -> bool:
    """Whether images of other sizes were scaled and cropped: `data.size` of imbtune's own readers.

    A knob of that name of a user's data set may mean something else.
    """
    return config.data.part.is_builtin and bool(config.data.knobs.get("size", 0))
