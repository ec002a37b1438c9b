"""Images that are decoded while a run goes on give the very run of images in memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from short_runs import CPU, everything, make_config, same, trained
from small_data import make_splits

from imbtune.data.decoding import Decoder
from imbtune.data.images import EncodedPixels, Images
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError, DataError
from imbtune.training import state
from imbtune.training.device import device_data
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.image_store import Encoded, Resident, Streamed
from imbtune.training.evaluation import margins
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import RungResult, train_through_rungs

COUNTS = [30, 10, 5, 1]


class Zipped:
    """The least that the training layer asks of encoded images: compressed bytes, one an image."""

    def __init__(self, pixels_NCHW: NDArray[np.uint8]) -> None:
        self.shape = pixels_NCHW.shape
        self._coded = [zlib.compress(image.tobytes()) for image in pixels_NCHW]

    def __len__(self) -> int:
        return len(self._coded)

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        assert index.dtype == np.int64 and index.ndim == 1
        rows = [zlib.decompress(self._coded[i]) for i in index]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *self.shape[1:]).copy()


def png(pixels_CHW: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_CHW.transpose(1, 2, 0).squeeze()).save(file, "PNG")
    return file.getvalue()


def as_files(pixels_NCHW: NDArray[np.uint8]) -> EncodedPixels:
    """As the data layer hands over images that do not fit into memory."""
    files = pa.array([png(image) for image in pixels_NCHW], pa.large_binary())
    decoder = Decoder(*pixels_NCHW.shape[1:])
    return EncodedPixels(files, False, decoder, np.zeros((len(files), 32), np.uint8))


def encoded(splits: Splits, kind: Any) -> Splits:
    train, held = (
        Images(kind(part.pixels), part.labels) for part in (splits.train, splits.held_out)
    )
    return Splits(train, held, splits.classes, splits.preprocessing)


def both(kind: Any = Zipped, size: int = 8, channels: int = 1) -> tuple[DeviceData, DeviceData]:
    """The same images in memory and streamed."""
    splits = make_splits(COUNTS, size=size, channels=channels)
    one, other = DeviceData(splits, CPU), DeviceData(encoded(splits, kind), CPU)
    assert isinstance(one.train, Resident) and isinstance(other.train, Streamed)
    return one, other


@pytest.fixture(params=[0, 2])
def workers(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many worker processes as torch has threads; one thread has none."""
    torch.set_num_threads(max(1, request.param))
    yield request.param
    torch.set_num_threads(1)


def in_small_blocks(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (device_data, margins, state):
        monkeypatch.setattr(module, "BLOCK", size)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_and_blocks_are_those_of_the_array(size: int, workers: int) -> None:
    one, other = both(channels=3)
    indices = torch.randint(0, 46, (40,), generator=torch.Generator().manual_seed(0)).split(9)
    before = torch.get_rng_state()
    assert len(one.train) == len(other.train) == 46
    assert one.image_shape == other.image_shape == (3, 8, 8)
    for mine, theirs in (
        (one.train.batches(indices), other.train.batches(indices)),
        (one.train.in_order(size), other.train.in_order(size)),
    ):
        assert same(list(mine), list(theirs))
    assert torch.equal(torch.get_rng_state(), before)  # dropout and noise stay a run's own


RUNS: list[dict[str, Any]] = [
    {"mix": "cutmix", "weights": "inverse"},
    {"mix": "smote", "mix__space": "features", "mix__neighbours": 2},
    {"mix": "soft_smote", "mix__neighbours": 2},
    {"generate": "m2m", "generate__steps": 1, "generate__gamma": 0.0, "generate__beta": 0.0,
     "generate__share": 0.5, "after": "crt", "optimizer": "sam"},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("run", "workers"),
    [(run, 0) for run in RUNS] + [(RUNS[0], 2), (RUNS[3], 2)],
    indirect=["workers"],
    ids=lambda value: str(value.get("mix", "m2m")) if isinstance(value, dict) else str(value),
)
def test_a_run_is_the_same_to_the_last_bit(run: dict[str, Any], workers: int) -> None:
    one, other = both()
    config = make_config(**run, epochs=1 if workers else 2, batch_size=23, loss="gcl")
    assert same(everything(trained(config, one)), everything(trained(config, other)))


def test_a_climb_is_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its evaluations, second stages and margins too, through many small blocks."""
    in_small_blocks(monkeypatch, 9)
    config = make_config(mix="mixup", after="lws", epochs=2, batch_size=23)
    path = rung_segments("cooldown", [1, 2], config.schedule.shared)
    results = []
    for data in both(as_files):
        rungs = [r for r in train_through_rungs([config], data, path) if isinstance(r, RungResult)]
        assert rungs[-1].margins is not None
        figures = [mean_K.tolist() for mean_K in rungs[-1].margins]
        results.append((figures, [r.confusion_KK.tolist() for r in rungs], rungs[-1].passes))
    assert results[0] == results[1]


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("same_class", [True, False])
def test_neighbours_of_small_images_are_those_in_memory(
    size: int, same_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_blocks(monkeypatch, 11)
    one, other = both(size=size)
    for mine, theirs in zip(
        one.neighbours.nearest(4, same_class), other.neighbours.nearest(4, same_class), strict=True
    ):
        assert np.array_equal(mine, theirs)


def test_neighbours_of_large_images_are_those_of_their_thumbnails() -> None:
    """Boxes of 3×2 pixels averaged; 33 pixels are already too many."""
    splits = make_splits(COUNTS, size=96)
    assert isinstance(splits.train.pixels, np.ndarray)
    pixels = splits.train.pixels[..., :64]
    small = pixels.reshape(-1, 1, 32, 3, 32, 2).mean((3, 5)).astype(np.uint8)
    wide = Splits(
        Images(pixels, splits.train.labels), splits.held_out, splits.classes, splits.preprocessing
    )
    tiny = Splits(
        Images(small, splits.train.labels), splits.held_out, splits.classes, splits.preprocessing
    )
    found, expected = (
        data.neighbours.nearest(3, False)[0]
        for data in (DeviceData(encoded(wide, Zipped), CPU), DeviceData(tiny, CPU))
    )
    assert np.array_equal(found, expected)
    assert device_data.THUMBNAIL == 32


def test_deepsmote_needs_the_images_in_memory() -> None:
    _, data = both()
    config = make_config(generate="deepsmote", generate__schedule="always", generate__epochs=1)
    line = (
        r"^generate=deepsmote needs the 46 training images in memory, and they are streamed: "
        r"use smaller images \(data\.size\), or raise \$IMBTUNE_MEMORY$"
    )
    with pytest.raises(ConfigError, match=line):
        trained(config, data)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_image_that_went_bad_is_one_line(workers: int) -> None:
    """From a worker process too."""
    splits = make_splits(COUNTS)
    assert isinstance(splits.train.pixels, np.ndarray)
    images: Encoded = as_files(splits.train.pixels)
    assert isinstance(images, EncodedPixels)
    files = images.files.to_pylist()
    files[3] = files[3][:40]
    images.files = pa.array(files, pa.large_binary())
    with pytest.raises(DataError, match=r"^image 3 cannot be read any more \([^\n]+$"):
        list(Streamed(images, CPU).in_order(10))
