"""`imbtune serve` in a real browser: the page of a study that goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_study import RECORDS, make_study
from playwright.sync_api import Browser

from imbtune.storage import Store
from imbtune.study.files import record_end
from imbtune.study.records import FINISHED

WAIT = 120_000  # milliseconds: on a busy machine
IMBTUNE = Path(sys.executable).with_name("imbtune")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder of studies, and the address at which the real command serves it."""
    runs = tmp_path / "runs"
    runs.mkdir()
    command = [str(IMBTUNE), "serve", str(runs), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        found = next(match for line in server.stdout if (match := re.search(r"http://\S+", line)))
        yield runs, found[0]
        server.terminate()


@pytest.mark.slow
def test_a_page_follows_its_study_and_keeps_what_the_reader_has_chosen(
    served: tuple[Path, str], browser: Browser
) -> None:
    runs, url = served
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(WAIT)
    seen: list[str] = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))

    page.goto(url)
    page.wait_for_function("document.body.textContent.includes('There is no study here yet')")
    sink = make_study(str(runs / "new"), records=RECORDS[:4], finals={}, best=False)
    page.wait_for_selector("a >> text=new")  # without a reload
    page.goto(f"{url}study/new")
    page.wait_for_selector("html[data-ready=yes]")
    assert page.locator("#picked").text_content() == "4 trials"
    page.locator("[data-figure='scores']").scroll_into_view_if_needed()
    page.wait_for_selector("[data-figure='scores'][data-drawn=yes]")
    page.select_option("#f-preset", "any")
    assert page.locator("#picked").text_content() == "2 of 4 trials"
    place = page.evaluate("scrollY")

    sink.trial(RECORDS[4].row())
    sink.flush()
    page.wait_for_function("picked.textContent === '2 of 5 trials'")
    assert page.locator("#f-preset").input_value() == "any"
    assert abs(page.evaluate("scrollY") - place) < 200
    assert page.locator("[data-figure='scores'][data-drawn=yes]").count() == 1
    record_end(Store(str(runs / "new")), FINISHED)
    page.wait_for_function("document.body.textContent.includes('finished')")
    assert seen == []
    assert all(each.startswith(url) for each in requests)
    page.close()
