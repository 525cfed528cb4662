"""``report.html`` in a real Chromium, opened from the disk with the network off.

``.ci/browser`` provides what these tests need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from harness.report.page import report_html
from tests.report import examples
from tests.report.browser.chromium import DESK, PHONE, Watched, offline_browser, opened
from tests.report.browser.runs import STORIES, forty_cells, write_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

VERDICTS = tuple(STORIES)
REPORTS = (*VERDICTS, "hostile", "mixed")
_STOPS = 400
"""More than the stops of the tab key in any of these reports."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests; every page has a profile of its own."""
    with offline_browser() as started:
        yield started


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A report of a run of each verdict, one of every outcome at once, and one of hostile answers."""
    folder = tmp_path_factory.mktemp("runs")
    files = {name: write_run(folder / name, {"prefix-cache-on": STORIES[name]()}) for name in VERDICTS}
    made = {
        "hostile": examples.hostile_report(f"{examples.HOSTILE} {'W' * 3000}"),
        "mixed": examples.mixed_report(),
    }
    for name, report in made.items():
        files[name] = folder / f"{name}.html"
        files[name].write_text(report_html(report), encoding="utf-8")
    return files


@pytest.mark.parametrize("verdict", VERDICTS)
def test_first_screen(browser: Browser, reports: Mapping[str, Path], verdict: str) -> None:
    """Without a click or a scroll: the verdict, what to do next, what is emulated, and the example."""
    for width in (PHONE, DESK):
        with opened(browser, reports[verdict], width=width) as watched:
            page = watched.page
            assert page.title().startswith(f"{verdict}: ")
            assert verdict.replace("error", "no verdict") in page.locator("h1").inner_text()
            assert verdict in page.locator(".matrix .tile").inner_text()
            for shown in ("h1", "text=Do this next", "text=emulated: CPU sleep mode", "#example h2"):
                box = page.locator(shown).first.bounding_box()
                assert box
                assert box["y"] + box["height"] < 900, f"{shown} is below the first screen"


def test_the_witness_stands_on_the_first_screen(browser: Browser, reports: Mapping[str, Path]) -> None:
    """Baseline beside after, whole, also on a phone."""
    for width in (PHONE, DESK):
        with opened(browser, reports["corrupt"], width=width) as watched:
            sides = [each.bounding_box() for each in watched.page.locator("#example .side").all()]
            assert len(sides) == 2
            assert all(box and box["y"] + box["height"] < 900 for box in sides)
            assert len({box["y"] for box in sides if box}) == 1


def test_filter_and_search(browser: Browser, reports: Mapping[str, Path]) -> None:
    """Where scripts run, cells are sought by any word in them and by their outcome; a tile undoes it."""
    with opened(browser, reports["mixed"]) as watched:
        shown = watched.page.locator(".cell:visible")
        watched.page.get_by_role("searchbox").fill("boot small")
        assert shown.count() == 1
        watched.page.get_by_role("searchbox").fill("")
        watched.page.locator(".filter button.clean").click()
        assert shown.count() == 1
        assert watched.page.locator("output").inner_text() == "1 of 5 cells"
        watched.page.locator(".tile.corrupt").click()
        assert shown.count() == 5


def test_the_command_is_copied(browser: Browser, reports: Mapping[str, Path]) -> None:
    """One click takes the command; without scripts there is no button, and all else is there."""
    with opened(browser, reports["corrupt"]) as watched:
        button = watched.page.locator(".next .copy")
        button.click()
        watched.page.wait_for_function("document.querySelector('.next .copy').textContent !== 'Copy'")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["corrupt"].as_uri())
    assert page.locator(".copy:visible").count() == 0
    assert page.locator("#example .side:visible").count() == 2
    context.close()


def test_contents_stay_in_sight(browser: Browser, reports: Mapping[str, Path]) -> None:
    """The line with the verdict and the contents sticks to the top, and leads there."""
    with opened(browser, reports["mixed"]) as watched:
        watched.page.get_by_role("link", name="How it was run").click()
        box = watched.page.locator(".contents").bounding_box()
        assert box
        assert box["y"] == 0
        assert "corrupt" in watched.page.locator(".contents").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_inaccessible(
    browser: Browser, reports: Mapping[str, Path], name: str, scheme: Literal["light", "dark"]
) -> None:
    """axe-core finds no violation of level A or AA, as the page opens and with all of it open."""
    with opened(browser, reports[name], scheme=scheme) as watched:
        assert watched.violations() == []
        watched.open_everything()
        assert watched.violations() == []


@pytest.mark.parametrize("name", REPORTS)
def test_phone(browser: Browser, reports: Mapping[str, Path], name: str) -> None:
    """At the width of a phone nothing sticks out, open or closed, and axe-core has nothing to say."""
    with opened(browser, reports[name], width=PHONE) as watched:
        assert watched.overflowing() == []
        watched.open_everything()
        assert watched.overflowing() == []
        assert watched.violations() == []


_WIDER = """() => [...document.querySelectorAll('figure')].filter(figure => {
  const room = figure.querySelector('.scroll').getBoundingClientRect().right;
  const drawn = [...figure.querySelectorAll('svg')].filter(each => each.checkVisibility());
  return !drawn.length || drawn.some(each => each.getBoundingClientRect().right > room + 1);
}).map(figure => figure.querySelector('h3').textContent)"""


def test_plots_fit_a_narrow_phone(browser: Browser, reports: Mapping[str, Path]) -> None:
    """At 360 pixels only agreement, which has a column for each pass, is wider than the page and scrolls."""
    with opened(browser, reports["corrupt"], width=360) as watched:
        watched.open_everything()
        assert watched.page.evaluate(_WIDER) == ["Agreement with the baseline"]


def test_colour_schemes(browser: Browser, reports: Mapping[str, Path]) -> None:
    """The page is light or dark as the reader's system is."""
    with opened(browser, reports["corrupt"], scheme="light") as watched:
        assert brightness(watched) > 0.9
    with opened(browser, reports["corrupt"], scheme="dark") as watched:
        assert brightness(watched) < 0.2


def brightness(watched: Watched) -> float:
    """How bright the page's ground is, 0 to 1."""
    colour = watched.page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(channel) for channel in re.findall(r"\d+", colour)]
    return sum(channels) / len(channels) / 255


@pytest.mark.parametrize("name", REPORTS)
def test_paper(browser: Browser, reports: Mapping[str, Path], name: str) -> None:
    """On paper all cells are open, dark ink on white, and nothing is wider than the sheet."""
    with opened(browser, reports[name], scheme="dark", width=700) as watched:
        watched.page.emulate_media(media="print")
        assert brightness(watched) == 1
        assert watched.overflowing() == []
        closed = watched.page.locator("details:not([open]):not(.bulk) > :nth-child(2)")
        assert all(each.is_visible() for each in closed.all())
        assert watched.page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_keyboard_walk(browser: Browser, reports: Mapping[str, Path], width: int) -> None:
    """Tab and Enter alone lead from the matrix to the cell, into a finding, and out of the page again."""
    with opened(browser, reports["corrupt"], width=width) as watched:
        press_tab_until(watched, ".tile")
        watched.page.keyboard.press("Enter")
        assert watched.page.url.endswith("#cell-1")
        finding = press_tab_until(watched, ".finding > summary")
        hidden = watched.page.locator(".finding > ul").first
        assert not hidden.is_visible()
        watched.page.keyboard.press("Enter")
        assert hidden.is_visible(), f"Enter does not open {finding}"
        watched.page.keyboard.press("Enter")
        assert not hidden.is_visible()
        press_tab_until(watched, "body")


def test_keyboard_opens_a_closed_cell(browser: Browser, reports: Mapping[str, Path]) -> None:
    """A clean cell is closed: its tile in the matrix opens it, and so does Enter on the cell itself."""
    with opened(browser, reports["clean"]) as watched:
        body = watched.page.locator(".cell > .body")
        assert not body.is_visible()
        press_tab_until(watched, ".tile")
        watched.page.keyboard.press("Enter")
        assert body.is_visible()
        watched.page.reload()
        watched.page.goto(watched.address)
        press_tab_until(watched, ".cell > summary")
        was_open = body.is_visible()
        watched.page.keyboard.press("Enter")
        assert body.is_visible() is not was_open


def test_arrow_keys_move_what_is_wider_than_a_phone(browser: Browser, reports: Mapping[str, Path]) -> None:
    """A plot that does not fit is moved by the arrow keys alone."""
    with opened(browser, reports["corrupt"], width=PHONE) as watched:
        press_tab_until(watched, "figure .scroll")
        watched.page.keyboard.press("ArrowRight")
        watched.page.wait_for_function("document.activeElement.scrollLeft > 0")


def press_tab_until(watched: Watched, selector: str) -> str:
    """Press Tab until what has the focus matches; every stop on the way must show that it has it."""
    for _ in range(_STOPS):
        watched.page.keyboard.press("Tab")
        seen = watched.page.evaluate(
            """selector => { const at = document.activeElement, style = getComputedStyle(at);
            return {there: at.matches(selector), named: at.outerHTML.slice(0, 80),
                    marked: at === document.body || style.outlineStyle !== 'none'}; }""",
            selector,
        )
        assert seen["marked"], f"the focus cannot be seen on {seen['named']}"
        if seen["there"]:
            return str(seen["named"])
    raise AssertionError(f"{_STOPS} presses of Tab do not reach {selector}")


@pytest.mark.parametrize("where", [".witness", ".change"])
def test_likely_tokens_on_hover(browser: Browser, reports: Mapping[str, Path], where: str) -> None:
    """Pointing at a token tells what both sides thought likely there, with probabilities."""
    with opened(browser, reports["corrupt"]) as watched:
        for side in ("baseline", "after"):
            chip = watched.page.locator(f"{where} .strip .part .chip.{side}").first
            title = chip.get_attribute("title")
            assert title
            assert title.count("%") > 1


def test_forty_cells_stay_below_three_megabytes(browser: Browser, tmp_path: Path) -> None:
    """A run of forty cells of every verdict makes a page of less than 3 MB, on which nothing sticks out."""
    report = write_run(tmp_path / "run", forty_cells())
    assert report.stat().st_size < 3_000_000
    with opened(browser, report, width=PHONE) as watched:
        assert watched.overflowing() == []
        watched.page.get_by_role("searchbox").fill("corrupt")
        assert watched.page.locator(".cell:visible").count() == 6
