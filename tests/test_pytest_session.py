"""What the process behind a pytest session answers; what pytest makes of it, test_pytest_plugin.py holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import JsonValue

from harness import pytest_session
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served
from tests.small_scenario import SCENARIO, write_scenario

ROOT = Path(__file__).parents[1]


def run(folder: Path, endpoint: str, *cells: str) -> dict[str, JsonValue]:
    """Have it run the only cell there is, or these."""
    scenario = str(folder / "scenarios" / "small.yaml")
    return dict(pytest_session._run([scenario], cells or ["small.only"], {"endpoint": endpoint}))


@pytest.mark.cell
def test_of_a_clean_cell_there_is_nothing_to_tell(here: Path, served: Served) -> None:
    """All that is said is where the report is."""
    answer = run(here, served.start())
    assert answer == {"outcomes": {"small.only": {}}, "report": answer["report"]}
    assert Path(str(answer["report"])).is_file()


def test_a_cell_that_lacks_something_is_not_run(here: Path, served: Served) -> None:
    """What cannot run as asked for is said to be skipped, and why; nothing starts."""
    (here / "scenarios" / "small.yaml").write_text(SCENARIO + "requires: fault\n")
    why = "small.only needs a planted fault: name one with --fault"
    assert run(here, served.start()) == {"outcomes": {"small.only": {"skipped": why}}}
    assert not (here / "reports").exists()


def test_a_corrupt_cell_is_told_with_its_cause(here: Path, served: Served) -> None:
    """The verdict in words, the cause, and some of the findings."""
    answer = run(here, served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE}))))
    outcomes = answer["outcomes"]
    assert isinstance(outcomes, dict)
    outcome = outcomes["small.only"]
    assert isinstance(outcome, dict)
    verdict, cause, *findings = str(outcome["failure"]).splitlines()
    assert verdict.startswith("small.only: corrupt: ")
    assert cause == "cause: stale prefix cache"
    assert findings


@pytest.mark.cell
def test_a_server_lasts_as_long_as_the_session(tmp_path: Path, toy_model_folder: Path) -> None:
    """It is started in a process of its own, says where it is, and is gone with the end of the input."""
    program = (
        "import sys; from harness import pytest_session, workflow; from types import SimpleNamespace\n"
        "from harness.servers.process.runtime import ProcessRuntime\n"
        "runtime = ProcessRuntime(engine_command=(sys.executable, '-m', 'tests.fake_vllm'), engine='cpu')\n"
        "workflow.choose = lambda asked: SimpleNamespace(runtime=runtime)\n"
        "pytest_session.answer_one_order()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "SLEEPWAKE_CACHE": str(tmp_path / "cache")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        options = {"model": str(toy_model_folder), "out": str(tmp_path)}
        process.stdin.write(json.dumps({"serve": options}) + "\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        assert httpx.get(f"{said['url']}/is_sleeping", trust_env=False).json() == {"is_sleeping": False}
        process.stdin.close()
        assert process.wait(60) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{said['url']}/health", trust_env=False)


@pytest.mark.cell
def test_an_arm_that_the_server_does_not_run_is_skipped_with_the_reason(here: Path, served: Served) -> None:
    """A server is tested as what it is; that it is nothing else is no failure."""
    only = "arms: {only: {args: [--enable-prefix-caching]}"
    write_scenario(here, SCENARIO.replace(only, only + ", off: {args: [--no-enable-prefix-caching]}"))
    outcomes = run(here, served.start(), "small.only", "small.off")["outcomes"]
    assert outcomes == {
        "small.only": {},
        "small.off": {"skipped": "small.off: the server says enable_prefix_caching is True"},
    }
