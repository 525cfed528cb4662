"""What a bare installation can do, and what it says about the rest."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness import extras
from harness.cli import call
from harness.errors import ExitCode, UsageError
from harness.extras import how_to_get

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "data" / "runs" / "format-1"

BARE = """
import contextlib, io, json, sys
from harness.extras import MODULES
for modules in MODULES.values():
    sys.modules.update(dict.fromkeys(modules))  # what is None there cannot be imported
from harness.cli import call
for words in json.load(sys.stdin):
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = call(words)
    print(json.dumps([code, output.getvalue(), errors.getvalue()]), file=sys.__stdout__)
"""
"""Carries out some commands one after another in a process that can import no package of any extra."""

LACKING: list[tuple[tuple[str, ...], extras.Extra]] = [
    (("report", "corrupt"), "report"),
    (("compare", "clean", "corrupt", "--html", "both.html"), "report"),
    (("run", "--list"), "run"),
    (("bisect", "scenario.yaml", "--good", "0.10.1", "--bad", "0.10.0"), "run"),
    (("fuzz",), "run"),
    (("selftest",), "run"),
    (("image", "build", "--vllm", "0.10.0"), "docker"),
]
"""What needs more than the bare installation, and the extra that brings it."""

COMMANDS = (
    ("check", "corrupt"),
    ("compare", "clean", "corrupt"),
    ("doctor",),
    *(words for words, _ in LACKING),
)


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of a clean and a corrupt run."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("clean", "corrupt"):
        shutil.copytree(STORED / name, folder / name)
    return folder


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the one in which commands are typed."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def bare(folder: Path) -> Mapping[tuple[str, ...], Ended]:
    """How each command ended where no extra is installed."""
    program = [sys.executable, "-c", BARE]
    told = subprocess.run(
        program, cwd=folder, input=json.dumps(COMMANDS), stdout=subprocess.PIPE, text=True, check=True
    )
    return {
        words: Ended(*json.loads(line))
        for words, line in zip(COMMANDS, told.stdout.splitlines(), strict=True)
    }


def test_stored_runs_are_judged_and_compared(bare: Mapping[tuple[str, ...], Ended], folder: Path) -> None:
    """`check` and `compare` need nothing but the bare installation; all but the page is written."""
    judged, compared = bare["check", "corrupt"], bare["compare", "clean", "corrupt"]
    assert (judged.code, judged.errors) == (ExitCode.CORRUPT_OR_DEGRADED, "")
    assert {"verdict.json", "junit.xml", "summary.md"} <= {
        path.name for path in (folder / "corrupt").iterdir()
    }
    assert (compared.code, compared.errors) == (ExitCode.CLEAN, "")


def test_a_page_of_another_judgement_does_not_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the verdict has changed and the page cannot be drawn again, none is better than the old one."""
    page, verdict = folder / "corrupt" / "report.html", folder / "corrupt" / "verdict.json"
    for module in extras.MODULES["report"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(folder)
    call(["check", "corrupt"])
    page.write_text("as it was", encoding="utf-8")
    call(["check", "corrupt"])
    assert page.exists()
    verdict.write_text("{}", encoding="utf-8")
    call(["check", "corrupt"])
    assert not page.exists()


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(("words", "extra"), LACKING, ids=[" ".join(words[:2]) for words, _ in LACKING])
def test_what_is_lacking_is_named(
    bare: Mapping[tuple[str, ...], Ended], words: tuple[str, ...], extra: extras.Extra
) -> None:
    """A command that needs more ends with 2, and says what to install."""
    assert bare[words].code == ExitCode.USAGE
    assert how_to_get(extra) in bare[words].errors


@pytest.mark.usefixtures("there")
def test_the_machine_is_examined_without_any_extra(bare: Mapping[tuple[str, ...], Ended]) -> None:
    """`doctor` says what it could not look at, and ends with 0."""
    examined = bare["doctor",]
    assert (examined.code, examined.errors) == (ExitCode.CLEAN, "")
    lacking = f"no   docker runtime: the Docker library is not installed: {how_to_get('docker')}"
    assert lacking in examined.output


def test_it_is_said_how_to_get_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the working copy where there is one, wherever the command is typed; else from the index."""
    monkeypatch.chdir(ROOT)
    assert how_to_get("fuzz") == "pip install -e '.[fuzz]'"
    monkeypatch.chdir(tmp_path)
    assert how_to_get("fuzz") == f"pip install -e '{ROOT}[fuzz]'"
    monkeypatch.setattr(extras, "working_copy", lambda: None)
    assert how_to_get("fuzz") == "pip install 'sleepwake[fuzz]'"


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
