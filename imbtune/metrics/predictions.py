"""A model's predictions of labelled images, as the metrics take them.

No module of this package imports torch itself: what reads a study needs only the metrics' names,
directions and chance levels, and runs without it. The tensors bring the functions along.

Shapes: N images, K classes, B images or classes of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imbtune.errors import ConfigError, DivergenceError, unknown
from imbtune.metrics.class_names import find_class

if TYPE_CHECKING:
    from torch import Tensor

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BLOCK_VALUES = 2**22  # float64 values of a temporary matrix: 32 MiB


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How many images there are of each class.

    Attributes:
        names: of the classes.
        train_K: training images.
        held_out_K: images that are predicted; a class may have none.
    """

    names: Sequence[str]
    train_K: Ints
    held_out_K: Ints

    @property
    def prior_K(self) -> Floats:
        """The share of each class among the images that are predicted."""
        prior_K: Floats = self.held_out_K / self.held_out_K.sum()
        return prior_K

    @property
    def defined_K(self) -> NDArray[np.bool_]:
        """The classes with images that are predicted."""
        defined_K: NDArray[np.bool_] = self.held_out_K > 0
        return defined_K

    def index(self, of: str) -> int:
        """The index of a class.

        Args:
            of: its name in any spelling, or else its index; empty for the class with the fewest
                training images (of several, the last: of two equal classes, the one with label 1).

        Raises:
            ConfigError: there is no such class.
        """
        if not of:
            return int(np.flatnonzero(self.train_K == self.train_K.min())[-1])
        if (found := find_class(of, self.names)) is not None:
            return found
        if of.isdecimal() and int(of) < len(self.names):
            return int(of)
        if of.removeprefix("-").isdecimal():
            raise ConfigError(
                f"no class has the index {of}: give a name, or an index from 0 to "
                f"{len(self.names) - 1}"
            )
        raise unknown("class", of, self.names)


@dataclass(frozen=True, eq=False)
class Confusion:
    """Predicted classes, counted.

    Attributes:
        matrix_KK: matrix_KK[i, j] images of class i are predicted as class j.
        counts: images of each class.
    """

    matrix_KK: Ints
    counts: ClassCounts

    @classmethod
    def of(cls, matrix_KK: Ints, train_K: Ints, names: Sequence[str] | None = None) -> Confusion:
        """From the matrix, the training images of each class and the classes' names."""
        names = names or [str(k) for k in range(len(matrix_KK))]
        return cls(matrix_KK, ClassCounts(names, train_K, matrix_KK.sum(1)))


class Ranking(NamedTuple):
    """One class against the others, at each image in descending order of the class's probability.

    Images of equal probability are on the same side of every threshold, so each of them has the
    values of the last one.

    Attributes:
        positive_NB: whether the image is of the class, for B classes.
        hits_NB: images of the class with a probability at least as large.
        alarms_NB: other images with a probability at least as large.
        before_NB: other images with a larger probability.
    """

    positive_NB: Tensor
    hits_NB: Tensor
    alarms_NB: Tensor
    before_NB: Tensor

    @property
    def precision_NB(self) -> Tensor:
        """The precision if this image and all before it are predicted as the class, in (0, 1]."""
        return self.hits_NB / (self.hits_NB + self.alarms_NB)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Logits of labelled images on their device.

    What the metrics share is computed once, in double precision and in blocks: beside the logits,
    an evaluation of any size takes at most about 500 MB.

    Args:
        logits_NK: the logits whose softmax is the probability: those of the network times the
            loss's scale s. At least one image.
        labels_N: the true classes, on the same device.
        names: of the classes.
        train_K: training images of each class.
        matrix_KK: the confusion matrix, if it is known already; else that of the largest logits.

    Raises:
        DivergenceError: a logit is not finite (NaN or infinite). No metric is defined then.
    """

    logits_NK: Tensor
    labels_N: Tensor
    names: Sequence[str]
    train_K: Ints
    matrix_KK: Ints | None = None

    def __post_init__(self) -> None:
        broken = int((~self.logits_NK.isfinite()).any(1).sum())
        if broken:
            raise DivergenceError(
                f"the logits of {broken} of {len(self.labels_N)} images are not finite"
            )

    @cached_property
    def confusion(self) -> Confusion:
        """The predicted classes, counted."""
        matrix_KK = self.matrix_KK
        if matrix_KK is None:
            classes = self.logits_NK.shape[1]
            matrix_KK = confusion_matrix(self.labels_N, self.logits_NK.argmax(1), classes)
        return Confusion.of(matrix_KK, self.train_K, self.names)

    @property
    def counts(self) -> ClassCounts:
        """Images of each class."""
        return self.confusion.counts

    @cached_property
    def _normaliser_N2(self) -> Tensor:
        """Largest logit of each image, and the logarithm of Σ exp(z - largest)."""
        found_N2 = self.logits_NK.new_empty((len(self.labels_N), 2)).double()
        for rows in _blocks(len(self.labels_N), self.logits_NK.shape[1]):
            logits_BK = self.logits_NK[rows].double()
            top_B, index_B = logits_BK.max(1)
            others_BK = (logits_BK - top_B[:, None]).exp().scatter(1, index_B[:, None], 0)
            # log1p: a probability close to 1 keeps its digits, so that large logits do not tie
            # Sorted: two images with the same logits in another order have the same sum
            sum_B = others_BK.sort(1).values.sum(1)
            found_N2[rows, 0], found_N2[rows, 1] = top_B, sum_B.log1p()
        return found_N2

    def log_probabilities(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Logarithms of the softmax probabilities, float64, of a block of images and classes."""
        top_N, log_sum_N = self._normaliser_N2[rows].unbind(1)
        logits_BB = self.logits_NK[rows, columns].double()
        return (logits_BB - top_N[:, None]) - log_sum_N[:, None]

    def subset(self, kept_N: Tensor, matrix_KK: Ints) -> Predictions:
        """The predictions of some of the images, without computing anything of an image again.

        Args:
            kept_N: indices of the images.
            matrix_KK: their confusion matrix.
        """
        found = Predictions(
            self.logits_NK[kept_N], self.labels_N[kept_N], self.names, self.train_K, matrix_KK
        )
        found.__dict__["_normaliser_N2"] = self._normaliser_N2[kept_N]
        return found

    def row_blocks(self) -> Iterator[slice]:
        """The images in blocks that fit into memory with all of their classes."""
        return _blocks(len(self.labels_N), self.logits_NK.shape[1])

    def ranking(self, columns: slice) -> Ranking:
        """Each of some classes against the others."""
        score_NB, order_NB = self.log_probabilities(columns=columns).sort(dim=0, descending=True)
        first = columns.start
        classes_B = self.labels_N.new_ones(score_NB.shape[1]).cumsum(0) - 1 + first
        positive_NB = self.labels_N[order_NB] == classes_B
        is_last_NB = score_NB.diff(dim=0, append=score_NB[-1:] - 1) != 0
        is_first_NB = score_NB.diff(dim=0, prepend=score_NB[:1] + 1) != 0
        hits_NB = positive_NB.cumsum(0)
        alarms_NB = (~positive_NB).cumsum(0)
        before_NB = alarms_NB - (~positive_NB).long()
        most = len(self.labels_N)
        return Ranking(
            positive_NB,
            hits_NB.where(is_last_NB, most).flip(0).cummin(0).values.flip(0).double(),
            alarms_NB.where(is_last_NB, most).flip(0).cummin(0).values.flip(0).double(),
            before_NB.where(is_first_NB, 0).cummax(0).values.double(),
        )

    @cached_property
    def by_class(self) -> tuple[Floats, Floats]:
        """AUROC and average precision of each class against the others, both (K,).

        NaN for a class without images, and for the AUROC of a class that all images have.
        """
        images, classes = self.logits_NK.shape
        areas_K, precisions_K = np.empty(classes), np.empty(classes)
        for block in _blocks(classes, images):
            ranking = self.ranking(block)
            positive_NB = ranking.positive_NB.double()
            hits_B = positive_NB.sum(0)
            precision_B = (positive_NB * ranking.precision_NB).sum(0) / hits_B
            below_NB = (images - hits_B) - (ranking.alarms_NB + ranking.before_NB) / 2
            area_B = (positive_NB * below_NB).sum(0) / (hits_B * (images - hits_B))
            areas_K[block] = area_B.cpu().numpy()
            precisions_K[block] = precision_B.cpu().numpy()
        return areas_K, precisions_K


def confusion_matrix(labels_N: Tensor, predicted_N: Tensor, classes: int) -> Ints:
    """Images of class i (row) that are predicted as class j (column), (K, K)."""
    pairs_N = labels_N * classes + predicted_N
    flat_KK: Ints = pairs_N.bincount(minlength=classes**2).cpu().numpy()
    return flat_KK.reshape(classes, classes)


def _blocks(length: int, width: int) -> Iterator[slice]:
    """Slices of `length` lines of `width` values."""
    size = max(1, BLOCK_VALUES // width)
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
