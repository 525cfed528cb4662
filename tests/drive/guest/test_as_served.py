"""A server that does not tell what its arm would be, from the command to the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness import pytest_session
from harness.cli import call
from harness.errors import ExitCode
from tests.fake_vllm.threads import Served
from tests.small_scenario import SCENARIO, write_scenario

UNTOLD = """\
arms:
  small-batches: {args: [--enable-prefix-caching, --max-num-batched-tokens=512]}
  large-batches: {args: [--enable-prefix-caching, --max-num-batched-tokens=4096]}
"""
TWO_ARMS = SCENARIO.replace("arms: {only: {args: [--enable-prefix-caching]}}\n", UNTOLD)


@pytest.mark.cell
def test_it_is_tested_as_served(here: Path, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """One cell with the flags that are proven; it can be taken up again, and is a shard's like any other."""
    scenario = write_scenario(here, TWO_ARMS)
    command = ["run", str(scenario), "--endpoint", served.start(), "--shard", "1/1"]
    assert call(command) == ExitCode.CLEAN
    said = capsys.readouterr().out
    assert "small.as-served instead of small.small-batches" in said
    assert "left out" in said
    run = (here / "reports" / "latest").resolve()
    assert [cell["cell"] for cell in json.loads((run / "verdict.json").read_text())["cells"]] == [
        "small.as-served"
    ]
    history = run / "cells" / "small.as-served" / "history.jsonl"
    started = json.loads(history.read_text().splitlines()[0])
    assert started["arm_args"] == ["--enable-prefix-caching"]
    assert json.loads((run / "run.json").read_text())["shard"]["matrix"] == ["small.as-served"]

    shutil.rmtree(history.parent)
    assert call(["run", "--resume", str(run)]) == ExitCode.CLEAN
    assert history.exists()


@pytest.mark.cell
def test_a_shard_has_nothing_that_cannot_run_there(here: Path, served: Served) -> None:
    """What the whole matrix has and a server lacks is left out of every shard, as it is without shards."""
    scenario = write_scenario(here, TWO_ARMS)
    other = scenario.with_name("other.yaml")
    other.write_text(TWO_ARMS.replace("name: small", "name: other") + "requires: fault\n")
    command = ["run", str(scenario), str(other), "--endpoint", served.start(), "--shard", "1/1"]
    assert call(command) == ExitCode.CLEAN
    run = json.loads((here / "reports" / "latest" / "run.json").read_text())
    assert run["shard"]["matrix"] == [*run["cells"]] == ["small.as-served"]


@pytest.mark.cell
def test_its_verdict_is_that_of_the_item_it_stands_for(here: Path, served: Served) -> None:
    """Of two items one has the verdict, and the other is skipped with the reason."""
    scenario = write_scenario(here, TWO_ARMS)
    cells = ["small.small-batches", "small.large-batches"]
    answer = pytest_session._run([str(scenario)], cells, {"endpoint": served.start()})
    outcomes = answer["outcomes"]
    assert isinstance(outcomes, dict)
    assert outcomes["small.small-batches"] == {}
    assert "the server does not tell" in str(outcomes["small.large-batches"])
