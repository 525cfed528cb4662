"""A Chromium without a network, a page in it that is watched, and what axe-core says of the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

AXE_VERSION = "4.14.1"
"""Also named in ``.ci/browser``, which fetches it."""
LEVELS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa")
"""What axe-core calls the rules of WCAG 2.0 to 2.2, levels A and AA."""
PATIENCE_MS = 120_000
PHONE = 390
DESK = 1100
"""Widths in CSS pixels."""


@dataclass
class Watched:
    """An open page, and all that it did beyond showing itself."""

    page: Page
    address: str
    trouble: list[str] = field(default_factory=list)

    def note_message(self, message: ConsoleMessage) -> None:
        """The page or the browser had something to say: an error, a warning, a violated policy."""
        self.trouble.append(f"console {message.type}: {message.text}")

    def note_request(self, request: Request) -> None:
        """A request for anything but the file itself; what stands in an address is no request."""
        if request.url.partition("#")[0] != self.address and not request.url.startswith("data:"):
            self.trouble.append(f"request: {request.url}")

    def open_everything(self) -> None:
        """Open all that can be opened."""
        self.page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")

    def violations(self) -> list[str]:
        """What axe-core finds against the page as it stands, one line an element."""
        self.page.evaluate(axe_core().read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "levels => axe.run(document, {runOnly: {type: 'tag', values: levels}, preload: false})",
            list(LEVELS),
        )
        assert found["passes"], "axe-core checked nothing"
        return [
            f"{rule['id']} at {node['target']}: {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def overflowing(self) -> list[str]:
        """The elements that stick out of the page, except within what scrolls by itself."""
        found = self.page.evaluate(_OVERFLOWING)
        return [str(each) for each in found]


_OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth;
  const found = [...document.body.querySelectorAll('*')].filter(each =>
    each.checkVisibility() && each.getBoundingClientRect().right > width + 1 && !each.closest('.scroll'));
  const named = found.map(each => `${each.tagName} ${each.className} "${each.textContent.slice(0, 40)}"`);
  if (document.documentElement.scrollWidth > width) named.push(`the page scrolls sideways by ${
    document.documentElement.scrollWidth - width} pixels`);
  return named;
}"""


def axe_core() -> Path:
    """Where ``.ci/browser`` puts axe-core."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    named = os.environ.get("AXE_CORE")
    return Path(named) if named else cache / "sleepwake" / f"axe-core-{AXE_VERSION}" / "axe.min.js"


@contextmanager
def offline_browser() -> Iterator[Browser]:
    """The machine's own Chromium; one that is missing fails, since the marker asks for it."""
    executable = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if executable is None or not axe_core().exists():
        pytest.fail("there is no Chromium or no axe-core: run .ci/browser")
    with sync_playwright() as playwright:
        # As root, as in most containers, Chromium starts without its sandbox only.
        browser = playwright.chromium.launch(
            executable_path=executable, chromium_sandbox=os.geteuid() != 0, timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, report: Path, *, scheme: Literal["light", "dark"] = "light", width: int = DESK
) -> Iterator[Watched]:
    """Open a report from the disk with the network off; when left, the page must have been quiet."""
    context = browser.new_context(
        offline=True, color_scheme=scheme, reduced_motion="reduce", viewport={"width": width, "height": 900}
    )
    context.set_default_timeout(PATIENCE_MS)
    watched = Watched(page=context.new_page(), address=report.as_uri())
    watched.page.on("console", watched.note_message)
    watched.page.on("pageerror", lambda error: watched.trouble.append(f"error: {error}"))
    watched.page.on("request", watched.note_request)
    watched.page.goto(watched.address)
    yield watched
    assert watched.trouble == []
    context.close()
