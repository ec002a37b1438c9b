"""Pixels of every kind of image file: transparency, colour spaces, frames, endings."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import raises_one_line, read
from PIL import Image

from imbtune.data.decoding import ENDINGS, Decoder


def save(image: Image.Image, path: Path, format: str | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, format, **options)
    return path


def icon() -> Image.Image:
    """Black: opaque on the left, half transparent, then fully transparent on the right."""
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 102))
    image.putpixel((2, 0), (0, 0, 0, 0))
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *(("RGBA", "png"), ("LA", "png"), ("RGBA", "tif"), ("LA", "tif"), ("RGBA", "webp")),
        *(("RGBA", "ico"), ("RGBA", "tga"), ("RGBA", "jp2"), ("P", "png")),
    ],
)
def test_transparent_pixels_are_laid_on_white(
    tmp_path: Path, mode: str, ending: str, channels: int
) -> None:
    image = icon().quantize(8) if mode == "P" else icon().convert(mode)
    options: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    path = save(image, tmp_path / f"icon.{ending}", **options)
    decoded = Decoder(channels, 1, 3).decode(str(path))
    assert decoded.pixels.tolist() == [[[0, 153, 255]]] * channels
    assert decoded.transparent and not decoded.animated


@pytest.mark.parametrize(
    ("image", "key"),
    [
        (Image.new("L", (2, 1), 7), 7),
        (Image.new("1", (2, 1), 1), 1),
        (Image.new("RGB", (2, 1), (1, 2, 3)), (1, 2, 3)),
        (Image.fromarray(np.array([[700, 700]], np.uint16)), 700),
        (icon().convert("RGB").crop((0, 0, 2, 1)).quantize(2), 0),
    ],
)
def test_one_colour_that_is_transparent(tmp_path: Path, image: Image.Image, key: object) -> None:
    """The tRNS chunk of PNG."""
    path = save(image, tmp_path / "x.png", transparency=key)
    decoded = Decoder(3, 1, 2).decode(str(path))
    assert decoded.pixels.min() == 255 and decoded.transparent


def test_transparent_pixels_of_a_gif(tmp_path: Path) -> None:
    image = icon()
    image.putpixel((1, 0), (0, 0, 0, 255))  # GIF has no half transparent pixels
    decoded = Decoder(3, 1, 3).decode(str(save(image, tmp_path / "x.gif")))
    assert decoded.pixels.tolist() == [[[0, 0, 255]]] * 3 and decoded.transparent


def png_chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def test_colours_16_bits_deep_with_a_transparent_one() -> None:
    """Pillow cannot write them: a header of 16 bits, rows of 65535, 257 and 0."""
    rows = zlib.compress(b"\0" + struct.pack(">6H", 256, 512, 768, 65535, 257, 0))
    file = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    file += png_chunk(b"tRNS", struct.pack(">3H", 256, 512, 768)) + png_chunk(b"IDAT", rows)
    decoded = Decoder(3, 1, 2).decode(file + png_chunk(b"IEND", b""))
    assert decoded.pixels[:, 0].T.tolist() == [[255, 255, 255], [255, 1, 0]]


def deep_png(values: Sequence[int], colour: bool) -> bytes:
    """A row of pixels with 16 bits per channel; Pillow cannot write colours."""
    rows = b"\0" + b"".join(struct.pack(">H", v) * (3 if colour else 1) for v in values)
    header = struct.pack(">IIBBBBB", len(values), 1, 16, 2 if colour else 0, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return file + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(
    ("highest", "says"),
    [
        (255, ("no value above 255 of 65,535", "0 to 1 of 255", "by 256")),
        (4095, ("no value above 4,095 of 65,535", "0 to 16 of 255", "by 16")),
        (16383, ("no value above 16,383 of 65,535", "0 to 64 of 255", "by 4")),
        (65535, ()),
    ],
)
def test_images_of_16_bits_that_use_fewer(
    tmp_path: Path, highest: int, says: tuple[str, ...], colour: bool
) -> None:
    """They are noted, and read as all others: nothing depends on the image's own range."""
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for i in range(4):
            values = [highest >> 8 if i else highest, highest, 0, 0]
            (tmp_path / name / f"{i}.png").write_bytes(deep_png(values, colour))
    dataset = read("folder", tmp_path)
    notes = [note for note in dataset.notes if "16 bits" in note]
    assert len(notes) == bool(says)
    for part in says:
        assert f"8 of 8 images have 16 bits and {says[0]}" in notes[0] and part in notes[0]
    expected = highest >> 8 if colour else round(highest * 255 / 65535)
    assert dataset.train.array().max() == expected


def test_other_depths_are_not_noted(tmp_path: Path) -> None:
    """Dark images of 8 bits, and a PGM, which says that its largest value is 4095."""
    for name in ("ant", "bee"):
        for i in range(3):
            save(Image.new("L", (2, 2), i), tmp_path / name / f"{i}.png")
        (tmp_path / name / "4.pgm").write_bytes(b"P5 2 2 4095\n" + struct.pack(">4H", *[4095] * 4))
    dataset = read("folder", tmp_path)
    assert not any("16 bits" in note for note in dataset.notes)
    assert dataset.train.array().max() == 255


def test_opaque_images_with_an_alpha_channel_are_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    for mode in ("RGBA", "LA"):
        image = Image.fromarray(pixels).convert(mode[:-1]).convert(mode)
        decoded = Decoder(len(mode) - 1, 4, 5).decode(str(save(image, tmp_path / "x.png")))
        expected = np.asarray(image.convert(mode[:-1])).reshape(4, 5, -1).transpose(2, 0, 1)
        assert np.array_equal(decoded.pixels, expected) and not decoded.transparent


def test_a_set_of_icons_is_noted_and_not_black(tmp_path: Path) -> None:
    for k, box in (("left", (0, 0, 4, 8)), ("top", (0, 0, 8, 4))):
        for i in range(4):
            image = Image.new("RGBA", (8, 8))
            image.paste((0, 0, 0, 255), box)
            save(image, tmp_path / k / f"{i}.png")
    save(Image.new("RGB", (8, 8)), tmp_path / "top" / "opaque.png")
    dataset = read("folder", tmp_path)
    assert dataset.notes[0].startswith(
        "8 of 9 images have transparent pixels and are laid on white"
    )
    assert "left/0.png" in dataset.notes[0]
    for images in (dataset.train, dataset.test):
        assert images.array().min() == 0 and images.array().max() == 255


def test_streamed_icons_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in "ab":
        for i in range(4):
            save(icon(), tmp_path / k / f"{i}.png")
    resident = read("folder", tmp_path)
    monkeypatch.setenv("IMBTUNE_MEMORY", "1")
    streamed = read("folder", tmp_path)
    assert streamed.train.digest() == resident.train.digest()
    assert streamed.notes[:-1] == resident.notes


def test_cmyk_is_converted_to_rgb(tmp_path: Path) -> None:
    """Also as Adobe writes it, inverted, which Pillow marks in the same way."""
    for rgb in ((200, 30, 30), (255, 255, 255), (0, 0, 0)):
        image = Image.new("RGB", (8, 8), rgb).convert("CMYK")
        for ending in ("jpg", "tif"):
            path = save(image, tmp_path / f"x.{ending}")
            decoded = Decoder(3, 8, 8)(str(path))
            assert np.abs(decoded.astype(int) - np.array(rgb)[:, None, None]).max() <= 3


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_frames_is_used_and_noted(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), (v, v, v)) for v in (200, 20, 90)]
    for k in "ab":
        for i in range(3):
            rest = frames[1:] if k == "a" else []
            path = tmp_path / k / f"{i}.{ending}"
            save(frames[0], path, save_all=True, append_images=rest)
    dataset = read("folder", tmp_path)
    assert abs(int(dataset.train.array().min()) - 200) <= 2
    assert dataset.notes[0].startswith("3 of 6 images have several frames, of which the first")


def test_endings_that_pillow_reads_in_any_case(tmp_path: Path) -> None:
    files = {
        **dict.fromkeys((".jpg", ".JPEG", ".jfif", ".jpe", ".JFIF"), "JPEG"),
        **{".png": "PNG", ".apng": "PNG", ".bmp": "BMP", ".dib": "DIB", ".gif": "GIF"},
        **{".webp": "WEBP", ".TIF": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pnm": "PPM"},
        **{".jp2": "JPEG2000", ".j2k": "JPEG2000", ".ico": "ICO", ".tga": "TGA", ".pcx": "PCX"},
        **{".sgi": "SGI", ".dds": "DDS"},
    }
    for i, (ending, format) in enumerate(files.items()):
        save(Image.new("RGB", (16, 16), (120, 120, 120)), tmp_path / "a" / f"{i}{ending}", format)
    for i in range(3):
        save(Image.new("RGB", (16, 16)), tmp_path / "b" / f"{i}.png")
    dataset = read("folder", tmp_path)
    counts = dataset.train.counts(2) + dataset.test.counts(2)
    assert counts.tolist() == [len(files), 3]
    of_a = dataset.train.array()[dataset.train.labels == 0].astype(int)
    assert np.abs(of_a - 120).max() <= 2
    assert {".jfif", ".avif", ".tga"} & set(ENDINGS) >= {".jfif", ".tga"}


def test_no_ending_starts_a_program_or_opens_no_image() -> None:
    assert not {".eps", ".ps", ".pdf", ".wmf", ".emf", ".h5", ".mpg", ".txt", ""} & set(ENDINGS)


def test_a_format_without_a_signature_needs_its_ending() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "TGA")
    with pytest.raises(Exception, match="cannot identify"):
        Decoder(3, 4, 4)(buffer.getvalue())


def test_integers_of_32_bits_have_no_white() -> None:
    """Read as 16 bits, a picture of 0 to 255 would be black."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(buffer, "TIFF")
    with pytest.raises(ValueError, match="32-bit integers"):
        Decoder(1, 4, 4)(buffer.getvalue())
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(buffer := io.BytesIO(), "TIFF")
    assert Decoder(1, 4, 4)(buffer.getvalue()).tolist() == [[[255] * 4] * 4]


def test_pixels_that_have_no_8_bits_are_named(tmp_path: Path) -> None:
    for k in "ab":
        for i in range(3):
            save(Image.new("L", (4, 4)), tmp_path / k / f"{i}.png")
    save(Image.fromarray(np.full((4, 4), 0.5, np.float32)), tmp_path / "a" / "f.tif")
    with raises_one_line("1 of 7 images", "a/f.tif (pixels are floating-point numbers)"):
        read("folder", tmp_path)


def test_a_file_that_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    for k in "ab":
        for i in range(3):
            save(Image.new("L", (4, 4)), tmp_path / k / f"{i}.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(read("folder", tmp_path).train) == 4
