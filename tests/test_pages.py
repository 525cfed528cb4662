"""The pages a user reads: links that lead somewhere, commands that exist, a README that stays short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from harness.cli.application import app
from harness.scenario.schema import Scenario

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        ROOT / "scenarios" / "README.md",
        ROOT / "reports" / "README.md",
    ]
)
LONGEST_README = 12_000
"""Bytes."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file of this project and, behind a #, one of its headings."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, heading = link.partition("#")
        if "://" in link:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        assert not heading or heading in set(_anchors(file)), link


@pages
def test_every_command_and_option_exists(page: Path) -> None:
    """What a page shows as a call of sleepwake can be called so."""
    for words, options in _calls(page.read_text(encoding="utf-8")):
        command, *_ = app.parse_commands(words)
        assert command, f"no such command: {words}"
        if not command[-1].startswith("-"):
            assert set(options) <= options_of(command), words


@cache
def options_of(command: tuple[str, ...]) -> frozenset[str]:
    """Every option of a command, put together once however many pages show it."""
    apps = app.parse_commands(command)[1]
    return frozenset(name for each in apps[-1].assemble_argument_collection() for name in each.names)


def test_every_command_has_its_line() -> None:
    """``docs/commands.md`` leaves none out."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    shown = {name for name in app if not name.startswith("-") and app[name].show}
    assert {name for name in shown if f"| `sleepwake {name}" not in text} == set()


def test_every_page_is_on_the_site() -> None:
    """``mkdocs.yml`` names each: the site is built strictly, and a page that nobody finds stops it."""
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    pages = {str(page.relative_to(ROOT)) for page in PAGES} | {"examples/README.md", "tests/README.md"}
    assert sorted(named) == sorted(pages)


def test_the_readme_is_short() -> None:
    """Who reads it wants to know what this is and how to run it; the rest is in ``docs/``."""
    assert len((ROOT / "README.md").read_bytes()) <= LONGEST_README


def test_the_scenario_in_the_readme_is_valid() -> None:
    """Copied into a file, it runs."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    Scenario.model_validate(YAML(typ="safe").load(text.split("```yaml\n")[1].split("```")[0]))


def _anchors(page: Path) -> Iterator[str]:
    """The headings, as GitHub names them."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _calls(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Every call of sleepwake in a code span or on a console line: its words, and the options among them."""
    spans = re.findall(r"`((?:\.venv/bin/)?sleepwake [^`]+)`", text)
    lines = re.findall(r"^\$ ((?:\.venv/bin/)?sleepwake [^#\n]+)", text, flags=re.MULTILINE)
    for call in (*spans, *lines):
        words = call.split()[1:]
        yield words, [word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)]
