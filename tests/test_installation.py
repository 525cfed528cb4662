"""What ships is found by one function, and asked for by name, in a working copy and from a wheel."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from harness import extras, installation
from harness.cli import call
from harness.errors import ExitCode, ScenarioError
from harness.extras import how_to_get
from harness.installation import installing
from harness.scenario.cells import load_cells
from harness.scenario.loader import load_scenario
from harness.servers.doctor import examine_machine
from tests.small_scenario import SCENARIO, write_scenario


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in which a wheel has put one scenario; returns the folder that ships."""
    package = tmp_path / "site-packages" / "harness"
    write_scenario(package).parent.rename(package / "shipped")
    (tmp_path / "site-packages" / "scenarios").mkdir()
    monkeypatch.setattr(installation, "package_folder", lambda: package)
    return package / "shipped"


def test_every_scenario_that_ships_is_named_after_its_file() -> None:
    """The name it is asked for without a path is the one that its cells carry."""
    names = installation.shipped_names()
    assert len(names) > 30
    for name, file in names.items():
        assert load_scenario(file).scenario.name == name


def test_a_working_copy_ships_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenarios lie at the root, where the Makefile is, and are told as they are seen from there."""
    root = Path(__file__).parents[1]
    assert installation.working_copy() == root
    monkeypatch.chdir(tmp_path)
    assert installation.shipped_scenarios() == root / "scenarios"
    assert installation.as_asked_for(root / "scenarios" / "first_look.yaml") == "first-look"
    monkeypatch.chdir(root)
    assert installation.shipped_scenarios() == Path("scenarios")
    assert installation.as_asked_for(Path("scenarios/first_look.yaml")) == "scenarios/first_look.yaml"


def test_a_wheel_ships_what_lies_in_the_package(wheel: Path) -> None:
    """A folder called ``scenarios`` beside the package is somebody else's."""
    assert installation.working_copy() is None
    assert installation.shipped_scenarios() == wheel
    assert installation.shipped_names() == {"small": wheel / "small.yaml"}


def test_a_file_in_a_wheel_is_told_by_its_name(wheel: Path) -> None:
    """A command that repeats a run works on another machine; a user's own file is told as it was named."""
    assert installation.as_asked_for(wheel / "small.yaml") == "small"
    assert installation.as_asked_for(Path("mine/small.yaml")) == "mine/small.yaml"


def test_what_ships_is_run_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a path, a suffix or a folder of scenarios; a slip of the fingers gets the nearest name."""
    assert call(["run", "--list", "small"]) == ExitCode.CLEAN
    assert capsys.readouterr().out == "small.only\n"
    assert call(["run", "--list", "smal"]) == ExitCode.USAGE
    assert "did you mean small?" in capsys.readouterr().err
    assert here.exists()


def test_a_file_goes_before_a_name(here: Path) -> None:
    """What lies in the current folder under that name is what is meant."""
    (here / "small").write_text("name: [\n")
    with pytest.raises(ScenarioError, match="small:2:1"):
        load_cells([Path("small")])


def test_corpora_that_ship_are_known_everywhere(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A scenario in any folder may use them; a corpus beside it goes first."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.yaml").write_text(SCENARIO.replace("name: small", "name: mine"))
    assert load_cells([folder / "mine.yaml"])[0].prompts == load_cells([here / "scenarios"])[0].prompts
    (folder / "corpora").mkdir()
    (folder / "corpora" / "words.yaml").write_text("".join(f"- {{id: own-{n}, text: x}}\n" for n in range(4)))
    assert load_cells([folder / "mine.yaml"])[0].prompts[0].id == "own-0"


def test_an_unknown_corpus_is_answered_with_those_that_ship(here: Path) -> None:
    """Outside of the shipped folder too there is something to name."""
    (here / "mine.yaml").write_text(SCENARIO.replace("corpus: words", "corpus: nothing-like-it"))
    with pytest.raises(ScenarioError, match="the corpora are: words") as caught:
        load_cells([here / "mine.yaml"])
    assert caught.value.location.endswith("mine.yaml:5:11")


def test_make_is_advised_only_where_there_is_a_makefile(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed a wheel is told what pip adds."""

    def absent(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    finding = next(iter(examine_machine()))
    assert wheel.exists()
    assert finding.detail.startswith("`pip install 'sleepwake[cpu]'` adds it")


def test_what_is_missing_is_added_as_it_was_installed(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working copy has no release to name; a wheel has no folder to install from."""
    assert wheel.exists()
    assert how_to_get("docker") == "pip install 'sleepwake[docker]'"
    monkeypatch.setattr(extras, "working_copy", Path.cwd)
    assert how_to_get("docker") == "pip install -e '.[docker]'"


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/home/me/project/.venv", "pip install 'sleepwake[run]'"),
        ("/home/me/.cache/uv/archive-v0/xxOAsgx4k69rVlLa", "uvx --from 'sleepwake[run]' sleepwake"),
        ("/home/me/.local/share/uv/tools/sleepwake", "uv tool install 'sleepwake[run]'"),
        ("/home/me/.cache/pipx/ea266314a0f1a7c", "pipx run --spec 'sleepwake[run]' sleepwake"),
        ("/home/me/.local/share/pipx/venvs/sleepwake", "pipx install --force 'sleepwake[run]'"),
    ],
)
def test_advice_fits_how_it_was_installed(prefix: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tool keeps the environment, it is that tool's command and not pip's."""
    monkeypatch.setattr(sys, "prefix", prefix)
    assert installing("sleepwake[run]") == command
