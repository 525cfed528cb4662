"""Scenarios as pytest items: collected, marked, run, and reported with their verdict."""

from __future__ import annotations

import pytest

from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import write_scenario

pytest_plugins = ["pytester"]

ON_A_CPU = """
from harness import workflow
from harness.servers.process.runtime import ProcessRuntime
from harness.servers.select import Choice

workflow.choose = lambda _: Choice(runtime=ProcessRuntime(engine="cpu"), reason="asked for")
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with one default scenario and one that is not."""
    small = write_scenario(pytester.path)
    other = small.read_text().replace("name: small", "name: other").replace("default: true", "default: false")
    small.with_name("other.yaml").write_text(other)
    return pytester


def test_default_scenarios_carry_the_marker(project: pytest.Pytester) -> None:
    """``-m sleepwake`` means the default set; the others have a marker of their own."""
    result = project.runpytest_subprocess("--collect-only", "-q", "-m", "sleepwake", "scenarios")
    result.stdout.fnmatch_lines(["scenarios/small.yaml::only"])
    result.stdout.no_fnmatch_line("*other.yaml::only*")
    optional = project.runpytest_subprocess("--collect-only", "-q", "-m", "sleepwake_optional", "scenarios")
    optional.stdout.fnmatch_lines(["scenarios/other.yaml::only"])


def test_a_clean_cell_passes(project: pytest.Pytester, served: Served) -> None:
    """One item a cell; clean is green."""
    result = project.runpytest_subprocess(
        "-m", "sleepwake", "scenarios", "--sleepwake-endpoint", served.start()
    )
    result.assert_outcomes(passed=1, deselected=1)


def test_a_corrupt_cell_fails_with_its_cause(project: pytest.Pytester, served: Served) -> None:
    """The failure is the verdict in words, not a traceback of the harness."""
    url = served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))
    result = project.runpytest_subprocess("-m", "sleepwake", "scenarios", "--sleepwake-endpoint", url)
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*corrupt*", "*stale prefix cache*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_wrong_scenario_is_a_collection_error(project: pytest.Pytester) -> None:
    """A mistake in a file is shown with its place, and nothing starts."""
    (project.path / "scenarios" / "small.yaml").write_text("name: small\nwhy: [\n")
    result = project.runpytest_subprocess("-m", "sleepwake", "scenarios")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*small.yaml:*"])


def test_a_cell_without_its_gpu_is_skipped(project: pytest.Pytester) -> None:
    """What cannot run on this engine is said to be skipped, and why; nothing starts."""
    path = project.path / "scenarios" / "small.yaml"
    path.write_text(path.read_text() + "requires: gpu\n")
    project.makeconftest(ON_A_CPU)
    result = project.runpytest_subprocess("-m", "sleepwake", "-rs", "scenarios")
    result.assert_outcomes(skipped=1, deselected=1)
    result.stdout.fnmatch_lines(["SKIPPED*small.only needs a GPU, and the engine here computes on a CPU"])
    assert not (project.path / "reports").exists()
