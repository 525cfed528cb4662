"""The docs site is built from the pages as they are, strictly: no link leads nowhere."""

from __future__ import annotations

import re
import subprocess
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def mkdocs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MkDocs, in an environment of its own."""
    folder = tmp_path_factory.mktemp("mkdocs")
    venv.create(folder, with_pip=True)
    asked = ("--quiet", "--disable-pip-version-check", "-r", str(ROOT / "docs" / "requirements.txt"))
    subprocess.run([str(folder / "bin" / "pip"), "install", *asked], check=True)
    return folder / "bin" / "mkdocs"


def test_the_site_is_built_without_a_warning(mkdocs: Path, tmp_path: Path) -> None:
    """With the map, the findings, the glossary, a page for each kind of user; and nothing is fetched."""
    build = [str(mkdocs), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = ("catalogue", "findings", "glossary", "for_servers", "for_training", "for_maintainers")
    for name in pages:
        text = (tmp_path / "site" / "docs" / name / "index.html").read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img)[^>]* (?:src|href)=\"?(https?://[^\" >]+)", text)
        assert [url for url in fetched if "github.com" not in url] == []


def test_a_link_that_leads_nowhere_is_noticed(mkdocs: Path, tmp_path: Path) -> None:
    """Strictly means that: a copy with one wrong link is not built."""
    for name in ("docs", "examples", "scenarios", "reports/README.md", "tests/README.md", "mkdocs.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        subprocess.run(["/bin/cp", "-R", str(ROOT / name), str(tmp_path / name)], check=True)
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        (tmp_path / page).write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    with (tmp_path / "docs" / "glossary.md").open("a", encoding="utf-8") as glossary:
        glossary.write("\n[nowhere](verdicts.md#no-such-heading)\n")
    build = [str(mkdocs), "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no-such-heading" in done.stderr
