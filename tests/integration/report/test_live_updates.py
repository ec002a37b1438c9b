"""What a reader has chosen on a live page stays, while the page takes over what is new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, Route
from report_study import full, make_data, trial

from imbtune.report.pages.rendering import vendored
from imbtune.report.pages.study_page import study_page
from imbtune.report.study_data import StudyData

URL = "http://live.test/study/made"
WAIT = 60_000  # milliseconds: on a busy machine


@dataclass
class Site:
    """A server inside the browser, which sends the state of a study that it is given last."""

    page: Page
    states: int = 0
    html: str = ""
    etag: str = ""

    def show(self, study: StudyData) -> None:
        """Send this state from now on, and let the page ask for it."""
        self.states += 1
        self.etag = f'"{self.states}"'
        self.html = study_page(study, live=self.etag)
        if self.page.url == URL:
            with self.page.expect_response(URL):
                self.page.clock.fast_forward(5000)

    def answer(self, route: Route) -> None:
        """Answer a request of the page."""
        url = route.request.url
        if url != URL:
            name = url.rsplit("/", 1)[1].removesuffix(".js")
            route.fulfill(body=vendored(name), content_type="text/javascript")
        elif route.request.headers.get("if-none-match") == self.etag:
            route.fulfill(status=304)
        else:
            route.fulfill(body=self.html, content_type="text/html", headers={"ETag": self.etag})


@pytest.fixture
def site(browser: Browser) -> Iterator[Site]:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(WAIT)
    found = Site(page)
    seen: list[str] = []
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.route("**/*", found.answer)
    page.clock.install()
    yield found
    page.close()
    assert seen == []


def two_objectives(count: int) -> StudyData:
    """The first trials of a study with two objectives, which still runs."""
    study = full()
    trials = study.trials[:count].assign(finalist=False)
    curves = study.curves[study.curves["trial"] < count]
    running = replace(study, winner=None, baseline=None, evidence=None, finals=study.finals[:0])
    return replace(running, trials=trials, curves=curves)


def opened(site: Site, study: StudyData) -> Page:
    site.show(study)
    site.page.goto(URL)
    site.page.wait_for_selector("html[data-ready=yes]")
    return site.page


def box_of(element: Locator) -> FloatRect:
    found = element.bounding_box()
    assert found
    return found


def drawn(page: Page, name: str) -> Locator:
    figure = page.locator(f"[data-figure='{name}']")
    figure.scroll_into_view_if_needed()
    page.wait_for_selector(f"[data-figure='{name}'][data-drawn=yes]")
    return figure


FADED = "document.querySelectorAll(`[data-figure='NAME'] path[opacity='0.05']`).length"


def test_filters_come_with_the_first_trial_and_with_new_presets(site: Site) -> None:
    """A page that was opened when no trial had ended has none."""
    epochs = pd.DataFrame({"trial": [0, 0], "epoch": [1, 2], "balanced_accuracy": [0.1, 0.2]})
    page = opened(site, replace(make_data([]), curves=epochs))
    assert not page.locator(".filters").is_visible()
    site.show(make_data([trial(0), trial(4)]))
    page.wait_for_selector(".filters", state="visible")
    assert page.locator("#f-preset option").all_text_contents()[3:] == ["erm"]
    page.select_option("#f-preset", "=erm")
    page.wait_for_function("picked.textContent === '1 of 2 trials'")
    more = [trial(0), trial(4), trial(5, preset="drw"), trial(6, preset="erm"), trial(7, None)]
    site.show(make_data(more))
    page.wait_for_function("picked.textContent === '2 of 5 trials'")
    assert page.locator("#f-preset option").all_text_contents()[3:] == ["drw", "erm"]
    assert page.locator("#f-preset").input_value() == "=erm"
    states = page.locator("#f-state option").all_text_contents()
    assert states == ["Every state", "failed", "finished", "stopped"]


def test_a_rectangle_selects_the_same_trials_in_every_figure_of_a_page_that_goes_on(
    site: Site,
) -> None:
    page = opened(site, two_objectives(20))
    scores = drawn(page, "scores")
    scores.hover()  # waits until figures above it are drawn
    box = box_of(scores)
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=4)
    page.mouse.up()
    page.wait_for_function("picked.textContent.includes(' of 20')")
    all_moves = f"{FADED.replace('NAME', 'scores')} === 20 - parseInt(picked.textContent)"
    page.wait_for_function(all_moves)
    drawn(page, "timeline")
    page.wait_for_function(f"{FADED.replace('NAME', 'timeline')} > 0")
    chosen = int(str(page.locator("#picked").text_content()).split()[0])
    assert 0 < chosen < 12
    front = drawn(page, "front-0")
    page.wait_for_function(f"{FADED.replace('NAME', 'front-0')} > 0")
    top = box_of(front)["y"]

    site.show(two_objectives(60))
    page.wait_for_function(f"picked.textContent === '{chosen} of 60 trials'")
    expected = {"scores": 60 - chosen, "timeline": 60 - chosen}
    for name, count in expected.items():
        page.wait_for_function(f"{FADED.replace('NAME', name)} === {count}")
    page.wait_for_function(f"{FADED.replace('NAME', 'front-0')} > 15")  # of 30 finished ones
    assert abs(box_of(front)["y"] - top) < 20
    assert page.locator("#table tbody tr").count() == chosen
    page.locator("#clear").click()
    page.wait_for_function(f"{FADED.replace('NAME', 'front-0')} === 0")
    page.wait_for_function(f"{FADED.replace('NAME', 'timeline')} === 0")


def test_an_open_row_and_what_is_read_stay_in_their_place(site: Site) -> None:
    page = opened(site, two_objectives(20))
    row = page.locator("#trial-4")
    row.locator("button").press("Enter")  # a click may miss it while figures above are drawn
    page.wait_for_function("document.querySelector('tr.more')")
    page.evaluate("document.querySelector('#trial-4').scrollIntoView({ block: 'start' })")
    top = box_of(row)["y"]
    site.show(two_objectives(30))
    page.wait_for_function("picked.textContent === '30 trials'")
    assert abs(box_of(page.locator("#trial-4"))["y"] - top) < 20
    assert page.locator("tr.more").count() == 1
    button = page.locator("#trial-4 button")
    assert button.get_attribute("aria-expanded") == "true"


def test_without_javascript_a_live_page_says_how_to_see_what_is_new(browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_content(study_page(two_objectives(20), live='"1"'))
    assert page.inner_text("#live").endswith("reload the page to see what is new.")
    assert "every 5 seconds" not in page.inner_text("body")
    context.close()
