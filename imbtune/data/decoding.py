"""Decode one image file to pixels.

The EXIF orientation is applied, transparent pixels are laid on white, 16-bit grey is scaled to
8 bits, and grey and colour are converted as the data set needs. Of several frames, the first is
used. The same file gives the same pixels in any thread or process.
"""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Bytes = NDArray[np.uint8]

Image.init()  # registers all formats
# Formats that Pillow decodes itself; for others, such as EPS, it starts programs. Some builds and
# versions of Pillow lack the last ones.
FORMATS = tuple(
    name
    for name in (
        *("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000"),
        *("ICO", "ICNS", "DDS", "PSD", "SGI", "SUN", "QOI", "AVIF"),
    )
    if name in Image.OPEN
)
# Formats whose files do not start with a clear signature: read only where the ending names them
FORMATS_BY_ENDING = {
    *("TGA", "PCX", "DCX", "DIB", "XBM", "XPM", "MSP", "CUR", "BLP", "FLI", "GBR", "PIXAR", "FTEX"),
}
ENDINGS = tuple(
    sorted(
        ending
        for ending, name in Image.registered_extensions().items()
        if name in FORMATS or name in FORMATS_BY_ENDING
    )
)
LFS_START = b"version https://git-lfs"
LFS_POINTER = (
    "the pointer that Git LFS leaves in place of a file: run `git lfs pull` to get the file"
)
BITS_PER_SAMPLE = 258  # number of this tag in a TIFF
SEVERAL = ("MPO", "PSD")  # files with previews or layers beside the picture
DEEP = re.compile(r"(LA|RGB[AXa]?|CMYK);16[BLNS]*")  # raw modes of 16 bits per channel
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


class WrongSizeError(Exception):
    """An image that can be read, but does not have the required size."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width}×{height}")


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Args:
        pixels: (C, H, W) uint8.
        transparent: whether pixels were transparent, fully or partly.
        animated: whether the file has several frames.
        peak: the largest value of a file with 16 bits per channel, 0 to 65535, where transparent
            pixels count as white; None for other files. In colour, the lower 8 bits are taken as 1.
    """

    pixels: Bytes
    transparent: bool
    animated: bool
    peak: int | None = None


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
        """The pixels of the file at a path, or of the content of a file; raises as `decode`."""
        return self.decode(file).pixels

    def decode(self, file: str | bytes) -> Decoded:
        """Decode the file at a path, or the content of a file.

        Raises:
            WrongSizeError: the image has another size, and `crop` is False.
            Exception: Pillow cannot read the file; it raises all kinds of exceptions.
        """
        with open_image(file) as opened:
            animated = opened.format not in SEVERAL and getattr(opened, "is_animated", False)
            if self.crop:  # faster: a JPEG is decoded at 1/2, 1/4 or 1/8, if still twice as large
                opened.draft(opened.mode, (2 * self.width, 2 * self.height))
            is_deep = has_16_bits(opened)  # known until it is loaded
            image, transparent = on_white(upright(opened))
            peak = _peak(image) if is_deep else None
            image = to_8_bits(image).convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width, self.height):
            if not self.crop:
                raise WrongSizeError(*image.size)
            image = crop_to(image, self.width, self.height)
        pixels = np.asarray(image)
        pixels = pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)
        return Decoded(pixels, transparent, animated, peak)


def crop_to(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest centred crop of that aspect ratio, scaled with antialiased bilinear filtering."""
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BILINEAR)


def open_image(file: str | bytes) -> Image.Image:
    """Open an image, from a path or a file's content. Only its header is read.

    Raises:
        OSError: there is no file, or one that must not be opened, such as a named pipe.
        Exception: Pillow cannot read the header.
    """
    if isinstance(file, bytes):
        if file.startswith(LFS_START):
            raise OSError(LFS_POINTER)
        return Image.open(io.BytesIO(file), formats=FORMATS)
    if not stat.S_ISREG(Path(file).stat().st_mode):
        raise OSError("no regular file")
    named = Image.registered_extensions().get(PurePath(file).suffix.lower())
    try:
        return Image.open(file, formats=(*FORMATS, *(FORMATS_BY_ENDING & {named})))
    except UnidentifiedImageError as error:
        if is_lfs_pointer(Path(file)):
            raise OSError(LFS_POINTER) from error
        raise


def is_lfs_pointer(path: Path) -> bool:
    """Whether the regular file is the pointer that Git LFS leaves until the file is fetched."""
    try:
        with path.open("rb") as opened:
            return opened.read(len(LFS_START)) == LFS_START
    except OSError:  # reported where the file is read
        return False


def upright(image: Image.Image) -> Image.Image:
    """The image, loaded, turned and mirrored according to its EXIF orientation."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image without transparency, laid on white, and whether it had transparent pixels.

    An image that is fully opaque is the same image; grey stays grey.
    """
    if not image.has_transparency_data:
        return image, False
    if image.mode.startswith("I"):  # 16-bit grey, of which one value is transparent
        clear = np.asarray(image) == image.info["transparency"]
        values = np.asarray(to_8_bits(image))
        return Image.fromarray(np.where(clear, np.uint8(255), values)), bool(clear.any())
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of a file with 16 bits per channel
        image.info["transparency"] = tuple(value >> 8 for value in key)
    grey = image.mode in GREY
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    transparent = bool(np.asarray(image.getchannel("A")).min() < 255)
    if transparent:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB"), transparent


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip the values.

    Raises:
        ValueError: floating-point pixels, 32-bit integers, of which no range is usual, or values
            of more than 16 bits.
    """
    if not image.mode.startswith("I"):
        if image.mode == "F":
            raise ValueError("pixels are floating-point numbers")
        return image
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE) == (32,):
        raise ValueError("32-bit integers, whose range is not known: save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"grey values from {values.min()} to {values.max()}, more than 16 bits")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))


def has_16_bits(image: Image.Image) -> bool:
    """Whether the file has 16 bits per channel, of an image that is opened and not loaded yet."""
    raw_modes = (
        tile[3] if isinstance(tile[3], str) else next(iter(tile[3] or ()), "")
        for tile in getattr(image, "tile", ())
    )
    return image.mode.startswith("I") or any(
        DEEP.fullmatch(str(raw_mode)) for raw_mode in raw_modes
    )


def _peak(image: Image.Image) -> int:
    """The largest of 16-bit values; of colours, Pillow has kept the upper 8 bits."""
    highest = int(np.asarray(image).max())
    return highest if image.mode.startswith("I") else highest << 8 | 255


def why_dark(peaks: Iterable[int]) -> tuple[str, str] | None:
    """What is said of images of 16 bits that use 14 or fewer, as those of many cameras do.

    Nothing is scaled by itself: an image must be read alike in training and prediction, whatever
    else is there.

    Args:
        peaks: the largest value of each image with 16 bits per channel.

    Returns:
        How they are read, and what to do; None where there are none, or they use more bits.
    """
    peak = max(peaks, default=0)
    if not 0 < peak < 2**14:
        return None
    return (
        f"have 16 bits and no value above {peak:,} of 65,535, so they are read as 0 to "
        f"{read_as(peak)} of 255",
        f"multiply their values by {2 ** (16 - peak.bit_length())}",
    )


def read_as(value: int) -> int:
    """The value of 8 bits that a value of 16 bits is read as."""
    return (value * 255 + 32767) // 65535


def why_unreadable(error: Exception) -> str:
    """Why an image cannot be read, for messages."""
    if isinstance(error, UnidentifiedImageError):  # its message contains a memory address
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may fill the memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
