"""One image file to pixels.

Orientation that a camera noted (EXIF) is applied, 16 bits are scaled to 8, grey is grey or becomes
colour as the data set needs it. The same file gives the same pixels, in any thread or process.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Bytes = NDArray[np.uint8]

# Pillow's own decoders only: others, such as EPS, start programs
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")
ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"),
)
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


class WrongSizeError(Exception):
    """A whole image that is not of the size that it must have."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width}×{height}")


@dataclass(frozen=True)
class Decoder:
    """Makes pixels (C, H, W) uint8 of an image file.

    Args:
        channels: 1 (grey) or 3 (RGB).
        height: of the result, in pixels.
        width: of the result, in pixels.
        crop: scale and centre-crop to that size; else another size is a WrongSizeError.
    """

    channels: int
    height: int
    width: int
    crop: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width

    def __call__(self, file: str | bytes) -> Bytes:
        """Decode a path, or a file's content. What is broken raises whatever Pillow raises."""
        with open_image(file) as opened:
            if self.crop:  # a JPEG can be decoded at 1/2, 1/4, 1/8: still twice what is needed
                opened.draft(opened.mode, (2 * self.width, 2 * self.height))
            image = upright(opened)
            image = to_8_bits(image).convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width, self.height):
            if not self.crop:
                raise WrongSizeError(*image.size)
            image = ImageOps.fit(image, (self.width, self.height), method=Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


def crop_to(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest centred cut of that shape, scaled (bilinear, every pixel counted)."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)


def open_image(file: str | bytes) -> Image.Image:
    """The image, its header read and its pixels not yet."""
    if isinstance(file, bytes):
        return Image.open(io.BytesIO(file), formats=FORMATS)
    return Image.open(file, formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as its EXIF orientation says."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def to_8_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 bits scaled to 8 (Pillow's own conversion clips them)."""
    if not image.mode.startswith("I"):
        if image.mode == "F":
            raise ValueError("pixels are floating-point numbers")
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()}, more than 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
