"""Pages that are rendered once for each state of a study, and kept for the next request."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from imbtune import __version__
from imbtune.errors import StudyError
from imbtune.report.pages.rendering import rendered
from imbtune.report.write import page_of
from imbtune.serving.served_studies import Listed, exists, find_studies, listed, state_of
from imbtune.study.view import Study

MOST_PAGES = 8  # that are kept; each has a few megabytes
SHARE = 0.5  # of the time in which one page may be rendered again and again
OLDEST = 2.0  # seconds for which the list of studies is kept


@dataclass(frozen=True)
class Page:
    """A rendered page.

    Attributes:
        etag: changes with the content.
        html: the page.
        made: when it was rendered, on the monotonic clock. seconds: that this took.
    """

    etag: str
    html: bytes
    made: float
    seconds: float


@dataclass
class _Slot:
    """One page, which at most one request renders at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    page: Page | None = None


class Pages:
    """The pages of the studies under a folder.

    Memory does not grow with time: the pages of the studies that were asked for last are kept.

    Args:
        path: the folder or URI.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._lines: dict[str, tuple[str, Listed]] = {}  # by study: its state, its line

    async def study(self, name: str) -> Page:
        """The report of one study, as it is now.

        Raises:
            StudyError: there is no such study, or it cannot be read.
        """
        studies = await run_in_threadpool(find_studies, self.path)
        if name not in studies:
            raise StudyError(f"there is no study {name} in {self.path}")
        path = studies[name]
        slot = self._slot(f"study {name}")
        async with slot.lock:
            state, _ = await run_in_threadpool(state_of, path)
            if slot.page and (slot.page.etag == etag_of(state) or _is_fresh(slot.page)):
                return slot.page
            slot.page = await run_in_threadpool(
                _timed, state, lambda etag: page_of(Study(path)._reported(), live=etag)
            )
            return slot.page

    async def index(self) -> Page:
        """The list of all studies."""
        slot = self._slot("index")
        async with slot.lock:
            if slot.page and time.monotonic() - slot.page.made < OLDEST:
                return slot.page
            slot.page = await run_in_threadpool(self._index)
            return slot.page

    def _index(self) -> Page:
        studies = find_studies(self.path)
        lines = {}
        states = []
        for name, path in studies.items():
            state, changed = state_of(path)
            known = self._lines.get(name)
            lines[name] = (
                known if known and known[0] == state else (state, listed(name, path, changed))
            )
            states.append(f"{name} {state}")
        self._lines = lines
        rows = sorted((line for _, line in lines.values()), key=_newest_first)
        return _timed(
            "\n".join(states),
            lambda etag: rendered(
                "index.html",
                title="Studies · imbtune",
                place=self.path,
                rows=rows,
                is_there=exists(self.path),
                interactive=False,
                live=etag,
            ),
        )

    def _slot(self, name: str) -> _Slot:
        slot = self._slots.pop(name, None) or _Slot()
        self._slots[name] = slot  # the newest is last
        idle = [key for key, each in self._slots.items() if not each.lock.locked()]
        for key in idle[: max(0, len(self._slots) - MOST_PAGES)]:
            if key != name:
                del self._slots[key]
        return slot


def etag_of(state: str) -> str:
    """The entity tag of a page: another one for another state, or another version of imbtune."""
    digest = hashlib.sha256(f"{__version__} {state}".encode(errors="replace")).hexdigest()
    return f'"{digest[:32]}"'


def _is_fresh(page: Page) -> bool:
    """Whether a page that is slow to render was rendered so recently that it will do."""
    return time.monotonic() - page.made < page.seconds / SHARE


def _timed(state: str, render: Callable[[str], str]) -> Page:
    began, etag = time.monotonic(), etag_of(state)
    html = render(etag).encode(errors="replace")
    ended = time.monotonic()
    return Page(etag, html, ended, ended - began)


def _newest_first(line: Listed) -> tuple[float, str]:
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    changed = line.changed or oldest
    return (-changed.timestamp() if line.changed else 0.0, line.name)
