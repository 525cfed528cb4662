"""What a bare installation can do, and what it says about the rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness import extras
from harness.errors import ExitCode, UsageError

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "data" / "runs" / "format-1"

BARE = """
import sys
from harness.extras import MODULES
for modules in MODULES.values():
    sys.modules.update(dict.fromkeys(modules))  # what is None there cannot be imported
from harness.cli import call
sys.exit(call(sys.argv[1:]))
"""


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A folder with copies of a clean and a corrupt run."""
    for name in ("clean", "corrupt"):
        shutil.copytree(STORED / name, tmp_path / name)
    return tmp_path


def bare(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that can import no package of any extra."""
    program = [sys.executable, "-c", BARE, *words]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)


def test_stored_runs_are_judged_and_compared(stored: Path) -> None:
    """`check` and `compare` need nothing but the bare installation; all but the page is written."""
    judged = bare("check", "corrupt", folder=stored)
    assert (judged.returncode, judged.stderr) == (ExitCode.CORRUPT_OR_DEGRADED, "")
    assert {"verdict.json", "junit.xml", "summary.md"} <= {
        path.name for path in (stored / "corrupt").iterdir()
    }
    compared = bare("compare", "clean", "corrupt", folder=stored)
    assert (compared.returncode, compared.stderr) == (ExitCode.CLEAN, "")


def test_a_page_of_another_judgement_does_not_stay(stored: Path) -> None:
    """Where the verdict has changed and the page cannot be drawn again, none is better than the old one."""
    page, verdict = stored / "corrupt" / "report.html", stored / "corrupt" / "verdict.json"
    bare("check", "corrupt", folder=stored)
    page.write_text("as it was", encoding="utf-8")
    bare("check", "corrupt", folder=stored)
    assert page.exists()
    verdict.write_text("{}", encoding="utf-8")
    bare("check", "corrupt", folder=stored)
    assert not page.exists()


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["report", "corrupt"], "report"),
        (["compare", "clean", "corrupt", "--html", "both.html"], "report"),
        (["run", "--list"], "run"),
        (["bisect", "scenario.yaml", "--good", "0.10.1", "--bad", "0.10.0"], "run"),
        (["fuzz"], "run"),
        (["selftest"], "run"),
        (["image", "build", "--vllm", "0.10.0"], "docker"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else value,
)
def test_what_is_lacking_is_named(stored: Path, words: list[str], extra: str) -> None:
    """A command that needs more ends with 2, and says what to install."""
    refused = bare(*words, folder=stored)
    assert refused.returncode == ExitCode.USAGE
    assert f"pip install 'sleepwake[{extra}]'" in refused.stderr


def test_the_machine_is_examined_without_any_extra(stored: Path) -> None:
    """`doctor` and `clean` say what they could not look at, and end with 0."""
    examined = bare("doctor", folder=stored)
    assert (examined.returncode, examined.stderr) == (ExitCode.CLEAN, "")
    assert "no   docker runtime: the Docker library is not installed: pip install 'sleepwake[docker]'" in (
        examined.stdout
    )


def test_every_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are installed are not."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match="a thing needs the packages openai, gguf, not installed"):
        extras.require("run", for_what="a thing")


def test_the_extras_are_those_of_the_project() -> None:
    """Every extra brings the packages that are looked for, and no bare installation has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    in_general = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    for extra, modules in extras.MODULES.items():
        brought = {Requirement(text).name for text in project["optional-dependencies"][extra]} - {"sleepwake"}
        assert {name.replace("-", "_").removesuffix("_python") for name in brought} == set(modules)
        assert not brought & in_general
