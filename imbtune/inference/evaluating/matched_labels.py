"""Labels of images as those of a model: classes are matched by their names.

Shapes: N images.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbtune.data.images import Images
from imbtune.data.readers.split_names import quoted
from imbtune.errors import DataError, difference
from imbtune.metrics.class_names import find_class

Ints = NDArray[np.int64]

NAMED = 5  # classes that a message lists


def matched_labels(
    images: Images, classes: Sequence[str], wanted: Sequence[str], what: str
) -> tuple[Ints, tuple[str, ...]]:
    """Labels as indices of the model's classes, and notes about classes without images.

    Raises:
        DataError: images of classes that the model does not have.
    """
    if not len(images):
        raise DataError(f"there are no {what}: give others")
    places = [find_class(name, wanted) for name in classes]
    counts = images.counts(len(classes)).tolist()
    used = [(name, k) for name, k, count in zip(classes, places, counts, strict=True) if count]
    if others := [name for name, k in used if k is None]:
        count = sum(n for n, k in zip(counts, places, strict=True) if k is None)
        near = difflib.get_close_matches(others[0], wanted, n=1)
        alike = f"; '{near[0]}'{said}" if near and (said := difference(others[0], near[0])) else ""
        raise DataError(
            f"{what}: {count:,} of {len(images):,} have classes that the model does not have, "
            f"{quoted(others, NAMED)}: its classes are {quoted(wanted, NAMED)}{alike}: rename "
            "them, or leave these images out"
        )
    labels_N: Ints = np.array([-1 if k is None else k for k in places], np.int64)[images.labels]
    notes = tuple(
        f"the class '{name}' is taken for the model's class '{wanted[k]}', which is spelled "
        f"differently{difference(name, wanted[k])}"
        for name, k in used
        if k is not None and name != wanted[k]
    )
    if missing := [name for k, name in enumerate(wanted) if k not in {at for _, at in used}]:
        notes += (
            f"no image of {len(missing)} of the model's {len(wanted)} classes "
            f"({quoted(missing, 5)}): means over classes leave them out",
        )
    return labels_N, notes
