"""Scenarios as pytest items: only where a project names them, run as one run, told with their verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL
from tests.fake_vllm.threads import Served
from tests.small_scenario import SCENARIO, write_scenario

pytest_plugins = ["pytester"]

INI = "[pytest]\nsleepwake_scenarios = scenarios\n"


@pytest.fixture(autouse=True)
def _our_own_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner pytest takes the plugin from this tree."""
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'harness' / 'public'}")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that names its scenarios: a default one and one that is not; and a test of its own."""
    small = write_scenario(pytester.path)
    other = small.read_text().replace("name: small", "name: other").replace("default: true", "default: false")
    small.with_name("other.yaml").write_text(other)
    pytester.makepyfile(test_own="def test_own():\n    pass\n")
    pytester.makefile(".ini", pytest=INI)
    return pytester


def test_a_foreign_project_is_left_alone(pytester: pytest.Pytester) -> None:
    """Its folder called scenarios is its own: one test passes, and nothing of ours is said."""
    (pytester.path / "scenarios").mkdir()
    (pytester.path / "scenarios" / "hydra.yaml").write_text("defaults:\n  - model: small\n")
    pytester.makepyfile(test_a="def test_a():\n    assert True\n")
    pytester.makefile(".ini", pytest="[pytest]\n")
    result = pytester.runpytest_subprocess(
        "-W", "error", "--strict-markers", "--strict-config", ".", "scenarios"
    )
    result.assert_outcomes(passed=1)
    said = [
        line for line in result.outlines + result.errlines if not line.startswith(("plugins:", "rootdir:"))
    ]
    assert "sleepwake" not in "\n".join(said)


def test_a_foreign_project_loads_nothing(pytester: pytest.Pytester) -> None:
    """Nothing that the harness needs is imported, and a package called harness is the project's own."""
    (pytester.path / "harness").mkdir()
    (pytester.path / "harness" / "__init__.py").write_text("OWN = True\n")
    pytester.makepyfile(
        "import sys\n"
        "import harness\n"
        "def test_own():\n"
        "    assert harness.OWN\n"
        "    assert not {'pydantic', 'rich', 'ruamel.yaml', 'httpx'} & set(sys.modules)\n"
    )
    pytester.makefile(".ini", pytest="[pytest]\npythonpath = .\n")
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


@pytest.mark.cell
def test_a_project_guards_its_own_engine(pytester: pytest.Pytester) -> None:
    """Without scenarios: the guard ends with the test, and the witness is the failure's text."""
    pytester.makepyfile(
        "import pytest, sleepwake\n"
        "from tests.public.scripted_llm import ScriptedLLM\n"
        "@pytest.mark.parametrize('level', [1, 2])\n"
        "def test_step(sleepwake_guard, level):\n"
        "    llm = ScriptedLLM()\n"
        "    guard = sleepwake_guard(llm, max_tokens=8)\n"
        "    llm.sleep(level=level)\n"
        "    llm.wake_up()\n"
        "    sleepwake.assert_clean(guard.check())\n"
    )
    pytester.makefile(".ini", pytest="[pytest]\n")
    result = pytester.runpytest_subprocess("--sleepwake-out", "recorded")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: corrupt (lost weights): answers to 8 of 8*", "*before: *"])
    assert list((pytester.path / "recorded").iterdir())


def test_a_plain_call_skips_them_and_says_how_to_run_them(project: pytest.Pytester) -> None:
    """An engine is started only for those who ask."""
    result = project.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*runs only with --sleepwake or -m sleepwake*"])


@pytest.mark.cell
def test_default_scenarios_carry_the_marker(project: pytest.Pytester) -> None:
    """``-m sleepwake`` means the default set; the others have a marker of their own, and both are known."""
    listing = ("--collect-only", "-q", "--strict-markers", "-W", "error")
    result = project.runpytest_inprocess(*listing, "-m", "sleepwake")
    result.stdout.fnmatch_lines(["scenarios/small.yaml::only"])
    result.stdout.no_fnmatch_line("*other.yaml::only*")
    optional = project.runpytest_inprocess(*listing, "-m", "sleepwake_optional")
    optional.stdout.fnmatch_lines(["scenarios/other.yaml::only"])


@pytest.mark.cell
def test_a_session_is_one_run(project: pytest.Pytester, served: Served) -> None:
    """All cells are in one run directory, with one report, and green where they are clean."""
    result = project.runpytest_inprocess("--sleepwake", "--sleepwake-endpoint", served.start())
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["sleepwake report: reports/*/report.html"])
    (run,) = {path.resolve() for path in (project.path / "reports").iterdir() if path.is_dir()}
    cells = json.loads((run / "verdict.json").read_text())["cells"]
    assert {cell["cell"] for cell in cells} == {"small.only", "other.only"}


@pytest.mark.cell
def test_a_path_names_scenarios_for_one_call(pytester: pytest.Pytester, served: Served) -> None:
    """Without any setting, wherever the tests lie; the shipped corpora are known there."""
    elsewhere = pytester.path / "elsewhere"
    write_scenario(elsewhere)
    pytester.makepyfile(test_own="def test_own():\n    pass\n")
    endpoint = ("--sleepwake-endpoint", served.start())
    result = pytester.runpytest_inprocess("--sleepwake=elsewhere/scenarios", *endpoint, "test_own.py")
    result.assert_outcomes(passed=2)


def test_asking_for_what_nobody_named_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """``--sleepwake`` alone needs the setting, and says so."""
    result = pytester.runpytest_inprocess("--sleepwake")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*set sleepwake_scenarios = PATHS*"])


@pytest.mark.cell
def test_a_corrupt_cell_fails_with_its_cause(project: pytest.Pytester, served: Served) -> None:
    """The failure is the verdict in words, not a traceback of the harness."""
    url = served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))
    result = project.runpytest_inprocess("-m", "sleepwake", "--sleepwake-endpoint", url)
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*corrupt*", "*stale prefix cache*"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.cell
def test_a_server_that_does_not_answer_fails_in_words(project: pytest.Pytester) -> None:
    """What was in the way is said as the command says it."""
    result = project.runpytest_inprocess("-m", "sleepwake", "--sleepwake-endpoint", "http://127.0.0.1:9")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.cell
def test_a_project_with_a_package_called_harness_runs_its_scenarios(
    project: pytest.Pytester, served: Served
) -> None:
    """Its tests import theirs, the run uses ours: they are in different processes."""
    (project.path / "harness").mkdir()
    (project.path / "harness" / "__init__.py").write_text("OWN = True\n")
    project.makepyfile(test_own="import harness\ndef test_own():\n    assert harness.OWN\n")
    project.makefile(".ini", pytest=INI + "pythonpath = .\n")
    result = project.runpytest_subprocess("--sleepwake", "--sleepwake-endpoint", served.start())
    result.assert_outcomes(passed=3)


@pytest.mark.cell
def test_a_wrong_scenario_is_a_collection_error(project: pytest.Pytester) -> None:
    """A mistake in a file is shown with its place, and nothing starts."""
    (project.path / "scenarios" / "small.yaml").write_text("name: small\nwhy: [\n")
    result = project.runpytest_inprocess("-m", "sleepwake", "scenarios")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*small.yaml:3:1*"])


@pytest.mark.cell
def test_a_cell_that_lacks_something_is_skipped(project: pytest.Pytester, served: Served) -> None:
    """What cannot run as asked for is said to be skipped, and why; nothing starts."""
    (project.path / "scenarios" / "small.yaml").write_text(SCENARIO + "requires: fault\n")
    result = project.runpytest_inprocess("-m", "sleepwake", "-rs", "--sleepwake-endpoint", served.start())
    result.assert_outcomes(skipped=1, deselected=2)
    result.stdout.fnmatch_lines(["SKIPPED*small.only needs a planted fault*"])
    assert not (project.path / "reports").exists()


def test_importing_the_plugin_imports_next_to_nothing() -> None:
    """In a project that does not use it, it costs what two small files cost."""
    program = (
        "import sys, pytest; before = set(sys.modules); import sleepwake.pytest_plugin;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['sleepwake', 'sleepwake._own', 'sleepwake.pytest_plugin']"


@pytest.mark.cell
def test_a_project_tests_against_a_server(pytester: pytest.Pytester, served: Served) -> None:
    """Without scenarios: the fixture says where it is and how its model is asked for."""
    url = served.start()
    pytester.makepyfile(
        "def test_it_is_there(sleepwake_server):\n"
        f"    assert sleepwake_server.url == {url!r}\n"
        f"    assert sleepwake_server.model == {DEFAULT_MODEL!r}\n"
    )
    pytester.makefile(".ini", pytest="[pytest]\n")
    pytester.runpytest_subprocess("--sleepwake-endpoint", url).assert_outcomes(passed=1)


@pytest.mark.cell
def test_a_server_that_is_not_there_is_an_error_in_words(pytester: pytest.Pytester) -> None:
    """As every command says it, with what to do."""
    pytester.makepyfile("def test_it_is_there(sleepwake_server):\n    pass\n")
    pytester.makefile(".ini", pytest="[pytest]\n")
    result = pytester.runpytest_subprocess("--sleepwake-endpoint", "ftp://nowhere")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'ftp://nowhere' is not an HTTP address*"])
