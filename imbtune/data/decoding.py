"""Decode one image file to pixels.

The EXIF orientation is applied, 16-bit grey is scaled to 8 bits, and grey and colour are converted
as the data set needs. The same file gives the same pixels in any thread or process.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Bytes = NDArray[np.uint8]

# Only formats that Pillow decodes itself; for others, such as EPS, it starts programs
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")
ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"),
)
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


class WrongSizeError(Exception):
    """An image that can be read, but does not have the required size."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width}×{height}")


@dataclass(frozen=True)
class Decoder:
    """Decodes an image file to pixels (C, H, W) uint8.

    Args:
        channels: C: 1 (grey) or 3 (RGB).
        height: H, in pixels.
        width: W, in pixels.
        crop: scale and centre-crop images of another size; else they are a WrongSizeError.
    """

    channels: int
    height: int
    width: int
    crop: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def __call__(self, file: str | bytes) -> Bytes:
        """Decode the file at a path, or the content of a file.

        Raises:
            WrongSizeError: the image has another size, and `crop` is False.
            Exception: Pillow cannot read the file; it raises all kinds of exceptions.
        """
        with open_image(file) as opened:
            if self.crop:  # faster: a JPEG is decoded at 1/2, 1/4 or 1/8, if still twice as large
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
    """The largest centred crop of that shape, scaled with antialiased bilinear filtering."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)


def open_image(file: str | bytes) -> Image.Image:
    """Open an image, from a path or a file's content. Only its header is read."""
    if isinstance(file, bytes):
        return Image.open(io.BytesIO(file), formats=FORMATS)
    return Image.open(file, formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """The image, loaded, turned and mirrored according to its EXIF orientation."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip the values.

    Raises:
        ValueError: floating-point pixels, or values of more than 16 bits.
    """
    if not image.mode.startswith("I"):
        if image.mode == "F":
            raise ValueError("pixels are floating-point numbers")
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()}, more than 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
