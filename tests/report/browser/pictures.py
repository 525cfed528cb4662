"""``python -m tests.report.browser.pictures docs``: the first screen of every verdict, a sheet a look.

With ``--report RUN/report.html`` it draws ``report.png`` instead: how the report of a real run begins.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser

from tests.report.browser.chromium import DESK, PHONE, offline_browser, opened
from tests.report.browser.runs import STORIES, write_run


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a report is looked at, and how large its picture is shown."""

    scheme: Literal["light", "dark"] = "light"
    width: int = DESK
    shown: int = 640
    """Width of one picture on the sheet, CSS pixels."""
    columns: int = 2


LOOKS: Mapping[str, Look] = {
    "light": Look(),
    "dark": Look(scheme="dark"),
    "phone": Look(width=PHONE, shown=300, columns=3),
}


_ONE_HEIGHT = 940


def draw(browser: Browser, reports: Mapping[str, Path], look: Look) -> bytes:
    """Picture the first screen of each report, and lay the pictures out on one sheet; PNG."""
    pictures = []
    for report in reports.values():
        with opened(browser, report, scheme=look.scheme, width=look.width) as watched:
            pictures.append(base64.b64encode(watched.page.screenshot()).decode("ascii"))
    page = browser.new_page(viewport={"width": look.columns * (look.shown + 8) + 8, "height": 100})
    images = "".join(f'<img width="{look.shown}" src="data:image/png;base64,{each}">' for each in pictures)
    columns = f"repeat({look.columns}, {look.shown}px)"
    style = f"margin: 8px; display: grid; grid-template-columns: {columns}; gap: 8px; background: gray"
    page.set_content(f'<body style="{style}">{images}</body>')
    sheet = page.screenshot(full_page=True)
    page.close()
    return sheet


def draw_one(folder: Path, report: Path) -> None:
    """Write the beginning of a report as ``report.png`` into ``folder``."""
    with offline_browser() as browser, opened(browser, report, scheme="light", width=DESK) as watched:
        watched.page.set_viewport_size({"width": DESK, "height": _ONE_HEIGHT})
        watched.page.screenshot(path=folder / "report.png")


def draw_all(folder: Path) -> None:
    """Write ``report-LOOK.png`` for every look into ``folder``."""
    with tempfile.TemporaryDirectory() as temporary, offline_browser() as browser:
        reports = {
            verdict: write_run(Path(temporary) / verdict, {"prefix-cache-on": story()})
            for verdict, story in STORIES.items()
        }
        for name, look in LOOKS.items():
            (folder / f"report-{name}.png").write_bytes(draw(browser, reports, look))


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    parser.add_argument("--report", type=Path, help="the HTML report of a real run")
    asked = parser.parse_args()
    if asked.report:
        draw_one(asked.folder, asked.report)
    else:
        draw_all(asked.folder)


if __name__ == "__main__":
    main()
