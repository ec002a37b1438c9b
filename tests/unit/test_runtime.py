"""Garbage is looked for seldom while imbtune's modules are imported, and as before afterwards."""

from __future__ import annotations

import gc
import weakref

import pytest

from imbtune.runtime import GC_THRESHOLD, fewer_collections


class Loop:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


def garbage_after(objects: int) -> bool:
    """Whether a loop is there yet after so many objects more."""
    loop = weakref.ref(Loop())
    made = [[] for _ in range(objects)]  # type: ignore[var-annotated]
    return bool(made) and loop() is not None


def test_garbage_is_found_later_and_in_the_end() -> None:
    assert not garbage_after(GC_THRESHOLD // 4)
    with fewer_collections():
        gc.collect()
        assert garbage_after(GC_THRESHOLD // 4)
        assert not garbage_after(2 * GC_THRESHOLD)


def test_afterwards_all_is_as_before() -> None:
    before = gc.get_threshold()
    with pytest.raises(RuntimeError), fewer_collections():
        raise RuntimeError
    assert gc.get_threshold() == before
