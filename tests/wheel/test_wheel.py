"""The wheel alone, installed into an environment of its own, in an empty folder: everything is there."""

from __future__ import annotations

import shlex
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from harness.errors import ExitCode
from harness.installation import shipped_names
from tests.action_steps import Runner, bare_environment
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import SCENARIO

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]


class Installed:
    """An environment that has the wheel, and the packages it needs from the environment of these tests."""

    def __init__(self, folder: Path, *, work: Path) -> None:
        self.folder, self.work = folder, work

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs in the working folder."""
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.work,
            env=bare_environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def says(self, *command: str) -> str:
        """What a program prints that must succeed."""
        done = self(*command)
        assert done.returncode == ExitCode.CLEAN, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    built = ("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT))
    subprocess.run([*pip, *built], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    # A path file that another names is not read, so this tree's own editable installation stays out.
    (packages / "packages-of-the-tests.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return folder / "venv"


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    """The environment, at work in an empty folder."""
    return Installed(environment, work=tmp_path)


def test_the_code_is_the_wheels(installed: Installed) -> None:
    """These tests would prove nothing about a wheel if the working copy were found first."""
    where = "import sleepwake, harness.installation as i; print(sleepwake.__file__, i.shipped_scenarios())"
    for place in installed.says("python", "-c", where).split():
        assert Path(place).is_relative_to(installed.folder)


def test_what_ships_is_listed_and_shown_by_name(installed: Installed, served: Served) -> None:
    """Every scenario with its corpus, by name and as the default set, and every image recipe."""
    assert "first-look.prefix-cache-on\n" in installed.says("sleepwake", "run", "--list")
    listed = installed.says("sleepwake", "run", "--list", *shipped_names())
    assert {line.split(".")[0] for line in listed.splitlines()} == set(shipped_names())
    command = installed.says(
        "sleepwake", "run", "--dry-run", "prefix-cache-level1", "--endpoint", served.start()
    )
    assert "prefix-cache-level1.prefix-cache-on" in command
    recipes = installed.says(
        "python", "-c", "from harness.servers.docker.images import supported_versions as v; print(v())"
    )
    assert "0.10.1" in recipes


def test_a_run_is_made_judged_and_reported(installed: Installed, served: Served) -> None:
    """A user's own scenario uses a shipped corpus; its run is judged, reported and listed."""
    own = SCENARIO.replace("corpus: words", "corpus: paragraphs")
    (installed.work / "mine.yaml").write_text(own)
    installed.says("sleepwake", "run", "mine.yaml", "--endpoint", served.start())
    assert "clean" in installed.says("sleepwake", "check")
    assert installed.says("sleepwake", "report").strip().endswith("report.html")
    program = "import sleepwake; print(sleepwake.check('reports/latest').result.verdict)"
    assert installed.says("python", "-c", program) == "clean\n"


def test_what_init_writes_is_run(installed: Installed, served: Served) -> None:
    """From an empty folder to a verdict, word for word: by the command that it prints, and by pytest."""
    endpoint = served.start()
    words = shlex.split(installed.says("sleepwake", "init", "--endpoint", endpoint).splitlines()[-1])
    assert "clean" in installed.says(*words)
    said = installed.says("python", "-m", "pytest", "-W", "error", "--sleepwake", "--strict-markers")
    assert "1 passed" in said
    assert installed("sleepwake", "init", "--endpoint", endpoint).returncode == ExitCode.USAGE


def test_own_prompts_are_asked_without_yaml(installed: Installed, served: Served) -> None:
    """Their run is judged, and is carried on with the same prompts."""
    prompts = ("".join(f"{word} " * 60) for word in ("river", "city", "music", "stone", "cloud"))
    (installed.work / "mine.jsonl").write_text("".join(f'"{prompt}"\n' for prompt in prompts))
    asked = ("run", "first-look", "--prompts", "mine.jsonl", "--endpoint", served.start())
    installed.says("sleepwake", *asked)
    assert "nothing to run" in installed.says("sleepwake", "run", "--resume", "latest")
    (installed.work / "mine.jsonl").write_text('"something else"\n')
    resumed = installed("sleepwake", "run", "--resume", "latest")
    assert "has changed since the run began" in resumed.stderr


def test_the_action_runs_the_wheel(installed: Installed, served: Served, tmp_path: Path) -> None:
    """Its steps, as a runner runs them, on a healthy server and on one with the founding bug."""
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / "sleepwake").symlink_to(installed.folder)
    (tmp_path / "summary").touch()
    on_github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "SLEEPWAKE_CACHE": str(tmp_path / "cache"),  # not what others left on this machine
    }
    runner = Runner(work=installed.work, temp=tmp_path / "temp", environ=bare_environment() | on_github)
    done = runner.step("Sleep, wake up, compare", scenarios="first-look", endpoint=served.start())
    assert (done.code, done.outputs["verdict"]) == (0, "clean"), done.output
    faulty = served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))
    done = runner.step("Sleep, wake up, compare", scenarios="first-look", endpoint=faulty)
    assert (done.code, done.outputs["verdict"]) == (1, "corrupt"), done.output
    assert "::error title=first-look" in done.output
    assert "corrupt" in (tmp_path / "summary").read_text()
    assert (Path(done.outputs["directory"]) / "report.html").is_file()
    assert runner.step("Leave nothing behind").code == 0


def test_the_search_over_releases_knows_scenario_and_recipes(installed: Installed) -> None:
    """`bisect` finds its scenario by name and tries releases; this runtime has only its own, and says so."""
    ends = ("--good", "0.10.1", "--bad", "0.10.0", "--runtime", "process")
    said = installed.says("sleepwake", "bisect", "prefix-cache-level1", *ends)
    assert "trying vLLM 0.10.0" in said


def test_faults_are_listed_without_an_engine(installed: Installed) -> None:
    """`selftest --list` names every fault and its cause."""
    listed = installed.says("sleepwake", "selftest", "--list")
    assert "keep-prefix-cache" in listed
    assert "stale prefix cache" in listed


def test_no_advice_is_about_make(installed: Installed) -> None:
    """There is no Makefile here."""
    assert "make " not in installed.says("sleepwake", "doctor")


def test_a_module_is_the_command_too(installed: Installed) -> None:
    """`python -m sleepwake` works, beside a folder called harness that is somebody else's."""
    (installed.work / "harness").mkdir()
    (installed.work / "harness" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    assert installed.says("python", "-m", "sleepwake", "--version").strip()


def test_a_foreign_project_is_left_alone(installed: Installed) -> None:
    """One test passes, and nothing of ours is said."""
    (installed.work / "scenarios").mkdir()
    (installed.work / "scenarios" / "hydra.yaml").write_text("defaults:\n  - model: small\n")
    (installed.work / "test_a.py").write_text("def test_a():\n    assert True\n")
    (installed.work / "pytest.ini").write_text("[pytest]\n")
    said = installed.says("python", "-m", "pytest", "-W", "error", "--strict-markers")
    assert "1 passed" in said
    assert not [line for line in said.splitlines() if "sleepwake" in line and not line.startswith("plugins:")]
