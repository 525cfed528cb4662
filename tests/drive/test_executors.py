"""What a cell takes of a cluster, and which options about executors make sense; no cluster is needed."""

from __future__ import annotations

import sys

import pytest

from harness.cli import call
from harness.drive.job import CellJob
from harness.drive.ray_executor import Node, demand_of
from harness.errors import ExitCode
from harness.extras import how_to_get
from harness.servers.base import Engine
from tests.drive.conftest import Driver
from tests.fake_vllm.threads import Served

NODES = (
    Node(id="a", name="head", resources={"memory": 1.0}),
    Node(id="b", name="large", resources={"CPU": 16.0, "GPU": 4.0}),
    Node(id="c", name="small", resources={"CPU": 8.0, "GPU": 2.0}),
)


@pytest.mark.parametrize(
    ("engine", "args", "asked", "demand"),
    [
        ("cpu", (), {}, {"CPU": 8.0, "GPU": 0.0}),
        ("gpu", (), {}, {"CPU": 1.0, "GPU": 1.0}),
        ("gpu", ("--tensor-parallel-size", "2"), {}, {"CPU": 1.0, "GPU": 2.0}),
        ("gpu", ("-tp=2", "--pipeline_parallel_size=2"), {}, {"CPU": 1.0, "GPU": 4.0}),
        ("gpu", (), {"GPU": 0.5, "fast": 1.0}, {"CPU": 1.0, "GPU": 0.5, "fast": 1.0}),
        ("cpu", (), {"CPU": 2.0}, {"CPU": 2.0, "GPU": 0.0}),
    ],
)
def test_a_cell_takes_what_its_server_is_spread_over(
    driver: Driver, engine: Engine, args: tuple[str, ...], asked: dict[str, float], demand: dict[str, float]
) -> None:
    """A GPU for each part of the model, a whole small node for a CPU engine; what is asked for goes first."""
    job = driver.job(driver.cell())
    spread = CellJob(**{**vars(job), "extra_args": args})
    assert demand_of(spread, engine=engine, asked=asked, nodes=NODES) == demand


def test_a_node_fits_a_demand_it_could_meet_when_idle() -> None:
    """Custom resources count like Ray's own; nothing is needed for an amount of nothing."""
    assert NODES[1].fits({"CPU": 16.0, "GPU": 4.0})
    assert not NODES[2].fits({"GPU": 4.0})
    assert not NODES[1].fits({"fast": 1.0})
    assert NODES[0].fits({"GPU": 0.0})


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "127.0.0.1:6379"], "add --executor ray"),
        (["--resource", "CPU=1"], "add --executor ray"),
        (["--executor", "ray", "--resource", "CPU"], "cannot understand 'CPU'"),
        (["--executor", "ray", "--resource", "CPU=-1"], "cannot understand 'CPU=-1'"),
        (["--executor", "ray", "--resource", "=1"], "cannot understand '=1'"),
        (["--executor", "ray"], "leave out --endpoint"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    served: Served, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """They are refused before a cluster is looked for."""
    endpoint = (
        ["--endpoint", served.start()] if "leave" in said or "add" in said else ["--runtime", "process"]
    )
    assert call(["run", *endpoint, *words]) == ExitCode.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_without_ray_that_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    assert call(["run", "--runtime", "process", "--executor", "ray"]) == ExitCode.USAGE
    assert how_to_get("ray") in capsys.readouterr().err
