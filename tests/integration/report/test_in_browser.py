"""The report in a real browser: what it loads, draws and links, for whom it can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_results import made_calibration, made_comparison
from playwright.sync_api import Browser, Page
from report_study import HOSTILE, full, make_data, trial, usual

from imbtune.report.pages.studies_page import studies_page
from imbtune.report.pages.study_page import study_page
from imbtune.report.write import page_of
from imbtune.study.view import Study

LAPTOP: Any = {"width": 1280, "height": 860}
PHONE: Any = {"width": 390, "height": 844}
WAIT = 60_000  # milliseconds: on a busy machine


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(study_page(full()), encoding="utf-8")
    return path


def opened(browser: Browser, path: Path, **options: Any) -> tuple[Page, list[str]]:
    """The page, and what it loaded, logged and raised, which should be nothing."""
    page = browser.new_page(**{"viewport": LAPTOP, **options})
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=WAIT)
    assert seen.pop(0) == path.as_uri()
    return page, seen


def draw_all(page: Page) -> list[str]:
    """Scroll to every figure; returns their names when they are drawn."""
    names = []
    for element in page.locator("[data-figure]").all():
        element.scroll_into_view_if_needed()
        name = element.get_attribute("data-figure")
        page.wait_for_selector(f"[data-figure='{name}'][data-drawn=yes]", timeout=WAIT)
        assert element.locator("svg, canvas").count() == 1
        names.append(str(name))
    return names


@pytest.fixture(scope="module")
def light(browser: Browser, report: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The page on a laptop with all figures; what it loaded and raised; the figures' names."""
    page, seen = opened(browser, report)
    yield page, seen, draw_all(page)
    page.close()


@pytest.fixture(scope="module")
def dark(browser: Browser, report: Path) -> Iterator[tuple[Page, list[str], list[str]]]:
    """The same on a phone, dark."""
    page, seen = opened(browser, report, viewport=PHONE, color_scheme="dark")
    yield page, seen, draw_all(page)
    page.close()


def test_all_figures_are_drawn_without_a_network_or_an_error(
    light: tuple[Page, list[str], list[str]],
) -> None:
    page, seen, names = light
    assert {"recall_change", "confusion", "margins", "importance", "parallel"} <= set(names)
    assert {"scores", "progress", "curves", "timeline", "rungs-0", "knobs-2"} <= set(names)
    assert seen == []
    assert page.locator("#hostile").count() == 0  # a name became an element
    assert HOSTILE in str(page.locator("table").first.text_content())


def test_a_selection_shows_in_every_figure_and_in_the_table(browser: Browser, report: Path) -> None:
    page, seen = opened(browser, report)
    assert page.locator("#picked").text_content() == "130 trials"
    figure = page.locator("[data-figure='knobs-0']")
    figure.scroll_into_view_if_needed()
    page.wait_for_selector("[data-figure='knobs-0'][data-drawn=yes]", timeout=WAIT)
    rows = page.locator("#table tbody tr")
    everything = rows.count()
    box = figure.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()
    page.wait_for_function("picked.textContent.includes(' of 130')", timeout=WAIT)
    other = page.locator("[data-figure='scores']")
    other.scroll_into_view_if_needed()
    page.wait_for_selector("[data-figure='scores'][data-drawn=yes]", timeout=WAIT)
    faded = "document.querySelectorAll('[data-figure=scores] path[opacity=\"0.05\"]').length"
    all_moves = f"{faded} > 65 && {faded} === 130 - parseInt(picked.textContent)"
    page.wait_for_function(all_moves, timeout=WAIT)  # of the mouse have been taken
    chosen = int(str(page.locator("#picked").text_content()).split()[0])
    assert 0 < chosen < 65
    assert rows.count() == chosen < everything
    page.locator("#clear").click()
    assert page.locator("#picked").text_content() == "130 trials"
    assert seen == []
    page.close()


@pytest.mark.parametrize("anchor", ["trials", "search"])
@pytest.mark.parametrize("size", [LAPTOP, PHONE], ids=["laptop", "phone"])
@pytest.mark.parametrize("how", ["click", "address"])
def test_a_link_leads_to_its_section(
    browser: Browser, report: Path, how: str, size: Any, anchor: str
) -> None:
    """The heading is at the top, below the menu where that stays, though figures are drawn late."""
    page = browser.new_page(viewport=size)
    page.goto(report.as_uri() + (f"#{anchor}" if how == "address" else ""))
    page.wait_for_selector("html[data-ready=yes]", timeout=WAIT)
    if how == "click":
        page.locator(f"nav a[href='#{anchor}']").click()
    near = """[...document.querySelectorAll("[data-figure]:not([data-drawn])")].every(each => {
      const { top, bottom } = each.getBoundingClientRect();
      return bottom < -400 || top > innerHeight + 400; })"""
    page.wait_for_function(near, timeout=WAIT)
    place = f"""(({{ top, left }}) => top > 0 && top < 120 &&
      document.elementFromPoint(left + 5, top + 9).id)(
      document.getElementById("{anchor}").getBoundingClientRect())"""
    page.wait_for_function(f"{place} === '{anchor}'", timeout=WAIT)
    page.close()


def test_only_the_brush_that_counts_is_shown(browser: Browser, report: Path) -> None:
    page, seen = opened(browser, report)
    shown = """[...document.querySelectorAll(".brush_brush path")].filter(e => e.getBBox().width)
      .map(e => e.closest("[data-figure]").dataset.figure)"""
    for name in ("scores", "knobs-0"):
        figure = page.locator(f"[data-figure='{name}']")
        figure.scroll_into_view_if_needed()
        page.wait_for_selector(f"[data-figure='{name}'][data-drawn=yes]", timeout=WAIT)
        figure.hover()
        box = figure.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=4)
        page.mouse.up()
        page.wait_for_function(f"(s => s.length && s.every(n => n === '{name}'))({shown})")
    page.set_viewport_size({"width": 1000, "height": 860})  # drawn again
    page.wait_for_timeout(300)
    page.wait_for_function(f"(s => s.length && s.every(n => n === 'knobs-0'))({shown})")
    page.locator("#clear").click()
    page.wait_for_function(f"!{shown}.length")
    assert seen == []
    page.close()


def test_filters_and_the_configuration_of_a_trial(browser: Browser, report: Path) -> None:
    page, seen = opened(browser, report)
    page.select_option("#f-preset", "any")
    assert page.locator("#picked").text_content() == "2 of 130 trials"
    page.select_option("#f-preset", "")
    page.select_option("#f-method", label="mix: mamix")
    assert page.locator("#picked").text_content() == "33 of 130 trials"
    page.select_option("#f-state", "failed")
    assert page.locator("#shown").text_content() == "No trial is selected."
    page.locator("#clear").click()
    button = page.locator("#table button").first
    button.focus()
    page.keyboard.press("Enter")
    details = str(page.locator("tr.more").text_content())
    assert "imbtune train runs/made --seeds 5 trains it on all training data, and" in details
    assert "imbtune train --trial runs/made 4 trains it as the search did" in details
    assert "does not act" in str(page.locator("#table button").nth(1).evaluate(
        "(b) => { b.click(); return b.closest('tr').nextSibling.textContent }"
    ) + details)  # fmt: skip
    assert button.get_attribute("aria-expanded") == "true"
    assert seen == []
    page.close()


def test_a_phone_and_a_dark_page(dark: tuple[Page, list[str], list[str]]) -> None:
    page, seen, _ = dark
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert (
        page.locator("#figure-finals .narrow").is_visible()
        and not page.locator("#figure-finals .wide").is_visible()
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    assert page.locator("[data-figure='scores'] [fill='#c4510a']").count() == 0  # the light orange
    assert page.locator("[data-figure='scores'] [fill='#ff9552']").count() > 0
    assert seen == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_no_serious_fault(
    scheme: str, request: pytest.FixtureRequest
) -> None:
    page: Page = request.getfixturevalue(scheme)[0]
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in serious] == []


LONG = "any_class_knn+linear+margin_aware with another word"


def test_long_names_can_be_read_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    """A name beside a row is in lines; one that a figure cuts is whole in its tooltip."""
    rows = [trial(n, mix=LONG if n % 4 else "none") for n in range(0, 12, 2)]
    cells = [{"label": 0, "predicted": 1, "count": 3}, {"label": 1, "predicted": 1, "count": 7}]
    names = [f"Painted Lady butterfly (Vanessa cardui) {n}" for n in range(3)]
    study = make_data(rows, {0: (0.5, 0.52), 2: (0.6, 0.63)}, classes=names)
    study.finals["confusion"] = pd.Series([cells] * len(study.finals))
    path = tmp_path / "page.html"
    path.write_text(study_page(study), encoding="utf-8")
    page, seen = opened(browser, path, viewport=PHONE)
    for figure in ("parts-0", "confusion"):
        page.locator(f"[data-figure='{figure}']").scroll_into_view_if_needed()
        page.wait_for_selector(f"[data-figure='{figure}'][data-drawn=yes]", timeout=WAIT)
    labels = page.locator("[data-figure='parts-0'] .role-axis-label text").all()
    lines = [label.locator("tspan").all_text_contents() for label in labels]
    whole = {"".join("".join(each).split()) for each in lines if each}
    assert f"{LONG}(3)".replace(" ", "") in whole and "…" not in "".join(whole)
    titles = page.locator("[data-figure='confusion'] text title").all_text_contents()
    assert names[0] in titles
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert seen == []
    page.close()


def test_names_and_counts_of_several_studies_are_not_broken(
    browser: Browser, tmp_path: Path
) -> None:
    """On a laptop no word of the table takes two lines, and the table fits."""
    rows = [trial(n, 0.4 + n / 100) for n in range(0, 8, 2)]
    times = {"ended": "2026-01-01T03:41:00Z"}
    studies = [
        make_data(rows, {0: (0.50, 0.52), 4: (0.60, 0.63)}, info={**times, "name": name})
        for name in ("digits-lt", "another-digits-lt")
    ]
    path = tmp_path / "page.html"
    path.write_text(studies_page(studies), encoding="utf-8")
    page, _ = opened(browser, path)
    broken = """[...document.querySelectorAll("table.studies td")].flatMap(cell => {
      const found = [], walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (walk.nextNode()) for (const match of walk.currentNode.data.matchAll(/\\S+/g)) {
        const range = document.createRange();
        range.setStart(walk.currentNode, match.index);
        range.setEnd(walk.currentNode, match.index + match[0].length);
        if (range.getClientRects().length > 1) found.push(match[0]);
      }
      return found; })"""
    assert page.evaluate(broken) == []
    scrolled = "document.querySelector('.scroll').scrollWidth"
    assert page.evaluate(scrolled) == page.evaluate(scrolled.replace("scrollWidth", "clientWidth"))
    page.close()


def test_the_first_minute_needs_no_javascript(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=LAPTOP)
    page = context.new_page()
    page.goto(report.as_uri())
    text = page.inner_text("main >> nth=0")
    assert "Trial 4 has the best balanced accuracy: 0.615" in text
    assert page.locator("#figure-finals svg").first.is_visible()
    assert page.locator("#figure-recall_by_size svg").first.is_visible()
    assert page.locator("noscript").first.is_visible()
    assert not page.locator(".filters").is_visible()  # they would do nothing
    context.close()


@pytest.mark.parametrize("make", [made_calibration, made_comparison])
def test_a_table_without_javascript_says_that_it_scrolls(
    browser: Browser, tmp_path: Path, make: Callable[[str], str]
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(Study(make(str(tmp_path / "c")))._reported()), encoding="utf-8")
    hint = "getComputedStyle(document.querySelector('.scroll'), '::before').content"
    for width, content in ((360, '"Scroll sideways for the rest →"'), (1280, '""')):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(path.as_uri())
        assert page.evaluate(hint) == content
        page.close()


@pytest.mark.parametrize("which", ["nothing", "failures", "studies"])
def test_pages_with_little(browser: Browser, tmp_path: Path, which: str) -> None:
    other = make_data([trial(n) for n in range(6)], info={"name": "other"})
    page_of = {
        "nothing": lambda: study_page(make_data([])),
        "failures": lambda: study_page(make_data([trial(n, None) for n in range(4)])),
        "studies": lambda: studies_page([usual(), other]),
    }
    path = tmp_path / "page.html"
    path.write_text(page_of[which](), encoding="utf-8")
    if which == "nothing":  # there is nothing to draw, so no script
        page = browser.new_page()
        page.goto(path.as_uri())
        assert "No trial has ended yet." in page.inner_text("body")
    else:
        page, seen = opened(browser, path)
        assert draw_all(page)
        assert seen == []
    page.close()
