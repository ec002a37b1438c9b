"""Images that are decoded while a run goes on give the very run of images in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
from short_runs import CPU, make_config, same, trained
from small_data import make_splits
from streamed_data import COUNTS, Zipped, as_files, both, encoded

from imbtune.data.images import EncodedPixels, Images
from imbtune.data.splits import Splits
from imbtune.errors import ConfigError, DataError
from imbtune.training import state
from imbtune.training.device import device_data
from imbtune.training.device.device_data import DeviceData
from imbtune.training.device.image_store import Encoded, Streamed
from imbtune.training.evaluation import margins
from imbtune.training.phases import rung_segments
from imbtune.training.rungs import RungResult, train_through_rungs


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
