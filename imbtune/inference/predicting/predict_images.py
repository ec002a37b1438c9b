"""Predictions of any number of image files: decoded in threads, one block at a time.

Shapes: N images of a block, C channels, H and W pixels, K classes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from PIL import Image

from imbtune.data.decoding import (
    Decoded,
    Decoder,
    WrongSizeError,
    read_as,
    why_dark,
    why_unreadable,
)
from imbtune.errors import ConfigError, printable, some_of
from imbtune.inference.decisions.decision import Decision, check_finite, is_finite
from imbtune.inference.predicting.image_inputs import ImageInput, ImageItem
from imbtune.inference.predicting.prediction_file import (
    PredictionRow,
    prediction_writer,
    read_csv,
    table_of,
)
from imbtune.inference.trained_model import TrainedModel

BLOCK = 256  # images that are decoded and predicted at a time
BLOCK_BYTES = (
    2**27
)  # of their pixels, and of their encoded content: blocks of large ones are smaller
MOST_THREADS = 16
NAMED = 3  # images that cannot be read which a summary names


@dataclass(frozen=True, eq=False)
class PredictedImages:
    """What :func:`predict_images` found.

    Attributes:
        count: images, those that could not be read included.
        failed: how many could not be.
        first_failures: the first of them, each with its reason.
        path: the file; None where none was asked for.
        notes: messages for the user.
    """

    count: int
    failed: int
    first_failures: tuple[str, ...]
    path: Path | None
    notes: tuple[str, ...]
    _rows: tuple[PredictionRow, ...] = ()
    _top: int = 1

    def __repr__(self) -> str:
        place = "" if self.path is None else f" in {self.path}"
        unread = f", of which {self.failed:,} could not be read" if self.failed else ""
        images = f"{self.count:,} image{'s' * (self.count != 1)}"
        return f"PredictedImages({images}{unread}{place}); .table has a row for each"

    @property
    def table(self) -> pd.DataFrame:
        """A row for each image, in the order of the input; read from the file if there is one."""
        if self.path is None:
            rows = table_of(self._rows, self._top)
        elif self.path.suffix.lower() == ".csv":
            rows = read_csv(self.path, self._top)
        else:
            rows = pq.read_table(self.path)
        found: pd.DataFrame = rows.to_pandas()
        return found


def predict_images(
    model: TrainedModel,
    given: ImageInput,
    path: Path | None,
    *,
    top: int,
    chosen: Decision,
    resize: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> PredictedImages:
    """Predict image files. One that cannot be read is a row with its error.

    Args:
        model: the model.
        given: the images.
        path: a new Parquet or CSV file; None to keep the rows in memory.
        top: how many of the most probable classes have columns of their own.
        chosen: how logits become probabilities and classes.
        resize: as in :func:`decoder_of`.
        progress: is called with the number of images predicted so far, and of all if it is known.

    Raises:
        ConfigError: the model has fewer classes than `top`, or does not say its images' size; the
            file cannot be written.
        DataError: a Parquet file or a list cannot be read to its end.
        DivergenceError: the model's weights are not finite.
    """
    if top > (most := len(model.classes)):
        raise ConfigError(f"--top {top}: the model has {most} classes: give at most {most}")
    decoder = decoder_of(model, resize)
    check_finite(model.network)
    count, failures, kept = 0, list[PredictionRow](), list[PredictionRow]()
    failed, deep = 0, _DeepImages()

    def blocks() -> Iterator[list[PredictionRow]]:
        nonlocal count, failed
        for rows in _predicted(model, given.items(), decoder, chosen, top, deep):
            count += len(rows)
            broken = [row for row in rows if row.error is not None]
            failed += len(broken)
            failures.extend(broken[: NAMED - len(failures)])
            if progress:
                progress(count, given.count)
            yield rows

    if path is None:
        for rows in blocks():
            kept += rows
    else:
        with prediction_writer(path, top) as writer:
            for rows in blocks():
                writer.write(rows)
    named = tuple(f"{row.path} ({row.error})" for row in failures)
    notes = (*given.notes, *deep.notes(model), *chosen.lines)
    return PredictedImages(count, failed, named, path, notes, tuple(kept), top)


@dataclass
class _DeepImages:
    """Images with 16 bits per channel, counted while they are predicted.

    Attributes:
        count: how many there are.
        peak: the largest value in them.
        first: the paths of the first of them.
    """

    count: int = 0
    peak: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str, peak: int | None) -> None:
        """Count an image; with `peak` None it is no such image."""
        if peak is not None:
            self.count, self.peak = self.count + 1, max(self.peak, peak)
            self.first += [path] * (len(self.first) < NAMED)

    def notes(self, model: TrainedModel) -> tuple[str, ...]:
        """A note where all are darker than the mean of the training images, so read otherwise."""
        mean = 255 * sum(model.preprocess.mean) / model.preprocess.channels
        if not (dark := why_dark([self.peak])) or read_as(self.peak) >= mean:
            return ()
        what, remedy = dark
        which = f"{self.count:,} image{'s' * (self.count != 1)}"
        named = some_of(self.first, NAMED, self.count)
        return (
            f"{which} {what}; the mean of the training images is {mean:.0f}, so unless those were "
            f"as dark, {remedy}: {named}",
        )


def decoder_of(model: TrainedModel, resize: bool = False) -> Decoder:
    """Decodes image files as the training did.

    Args:
        resize: scale and centre-crop images of another size, also where the training did not.

    Raises:
        ConfigError: the model does not say its images' size.
    """
    if model.image_shape is None:
        raise ConfigError(
            "the model does not say the size of its images, as an older version wrote it: train "
            "it again, or use model.predict with arrays of the right size"
        )
    found = model.preprocess.decoder()
    return replace(found, crop=True) if resize else found


def _predicted(
    model: TrainedModel,
    items: Iterator[ImageItem],
    decoder: Decoder,
    chosen: Decision,
    top: int,
    deep: _DeepImages,
) -> Iterator[list[PredictionRow]]:
    """The rows of all images, in blocks. A block is decoded while the one before is predicted."""
    for block, images in decoded_blocks(items, decoder):
        for item, image in zip(block, images, strict=True):
            if isinstance(image, Decoded):
                deep.add(item.path, image.peak)
        yield _rows(model, block, images, chosen, top)


def decoded_blocks(
    items: Iterator[ImageItem], decoder: Decoder
) -> Iterator[tuple[list[ImageItem], list[Decoded | str]]]:
    """Images decoded, or why they cannot be read, in blocks.

    The next block is decoded in threads while the caller works on this one.
    """
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    size = max(1, min(BLOCK, BLOCK_BYTES // int(np.prod(decoder.shape))))

    def decode(item: ImageItem) -> Decoded | str:
        if item.problem:
            return item.problem
        try:
            return decoder.decode(item.file)
        except WrongSizeError as error:
            wanted = f"{decoder.width}×{decoder.height}"
            return f"it is {error} pixels, and the model's images are {wanted}: --resize scales it"
        except Exception as error:  # Pillow raises all kinds of exceptions for broken files
            return " ".join(printable(why_unreadable(error)).split())

    waiting: list[tuple[list[ImageItem], list[Future[Decoded | str]]]] = []
    with decoding_warnings(), ThreadPoolExecutor(threads) as pool:
        try:
            for block in _blocks(items, size):
                waiting.append((block, [pool.submit(decode, item) for item in block]))
                if len(waiting) == 2:
                    ready, futures = waiting.pop(0)
                    yield ready, [future.result() for future in futures]
            for ready, futures in waiting:
                yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def decoding_warnings() -> Iterator[None]:
    """Pillow's warnings: an image of more than 89 million pixels is an error, others are nothing.

    A small file may have billions of pixels, which would fill the memory.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _blocks(items: Iterator[ImageItem], size: int) -> Iterator[list[ImageItem]]:
    """Blocks of at most `size` images and `BLOCK_BYTES` of encoded content."""
    block, content = list[ImageItem](), 0
    for item in items:
        block.append(item)
        content += len(item.file) if isinstance(item.file, bytes) else 0
        if len(block) == size or content >= BLOCK_BYTES:
            yield block
            block, content = [], 0
    if block:
        yield block


def _rows(
    model: TrainedModel,
    block: list[ImageItem],
    images: list[Decoded | str],
    chosen: Decision,
    top: int,
) -> list[PredictionRow]:
    """The rows of a block."""
    pixels = {i: image.pixels for i, image in enumerate(images) if isinstance(image, Decoded)}
    rows = [
        PredictionRow(item.path, error=found if isinstance(found, str) else None)
        for item, found in zip(block, images, strict=True)
    ]
    if not pixels:
        return rows
    logits_NK = model.logits(np.stack(list(pixels.values())))
    finite_N = is_finite(logits_NK).tolist()
    decided_NK = chosen.logits(torch.nan_to_num(logits_NK))
    p_NK = decided_NK.softmax(1)
    label_N = chosen.classes(decided_NK)
    own_N = p_NK.gather(1, label_N[:, None])[:, 0]
    others_NK = p_NK.scatter(1, label_N[:, None], -1)
    margin_N = own_N - others_NK.max(1).values
    ranked = p_NK.topk(top, dim=1)
    columns = (label_N, own_N, margin_N, ranked.indices, ranked.values)
    values = zip(*(column.tolist() for column in columns), strict=True)
    for i, is_good, (label, p, margin, best, best_p) in zip(pixels, finite_N, values, strict=True):
        if not is_good:
            rows[i] = PredictionRow(block[i].path, error="the model's output is not finite")
            continue
        pairs = tuple((model.classes[k], q) for k, q in zip(best, best_p, strict=True))
        rows[i] = PredictionRow(block[i].path, model.classes[label], p, margin, pairs)
    return rows
