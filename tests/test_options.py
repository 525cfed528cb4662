"""Where options come from: the command line before the environment, the scenario, and defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness import workflow
from harness.cli import call
from harness.cli.option_sources import VARIABLES
from harness.errors import ExitCode
from harness.history.layout import cell_folder
from harness.history.recording import load_recording
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell, load_cells
from harness.servers.docker.images.options import BuildOptions
from harness.servers.select import Choice
from tests.fake_vllm.in_process import InProcessRuntime
from tests.fake_vllm.options import Options
from tests.fake_vllm.threads import Served

Asked = Callable[[Sequence[str]], RunOptions]


@pytest.fixture
def asked(here: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What ``sleepwake run --list`` makes of its arguments and of the environment."""
    seen: list[RunOptions] = []

    def look(options: RunOptions) -> list[Cell]:
        seen.append(options)
        return load_cells([here / "scenarios"])

    def ask(arguments: Sequence[str]) -> RunOptions:
        assert call(["run", "--list", *arguments]) == ExitCode.CLEAN
        return seen[-1]

    monkeypatch.setattr(workflow, "load", look)
    return ask


def _sources(directory: Path) -> dict[str, str]:
    """What ``run.json`` says of the run's options."""
    sources: dict[str, str] = json.loads((directory / "run.json").read_text())["sources"]
    return sources


def _sources_of_the_cell(directory: Path) -> dict[str, object]:
    sources: dict[str, object] = json.loads((directory / "run.json").read_text())["cells"]["small.only"][
        "sources"
    ]
    return sources


@pytest.mark.parametrize(
    ("variable", "value", "given"),
    [
        ("SLEEPWAKE_RUNTIME", "process", {"runtime": "process"}),
        ("SLEEPWAKE_VLLM", "0.10.0", {"vllm": "0.10.0"}),
        ("SLEEPWAKE_IMAGE", "an/image:tag", {"image": "an/image:tag"}),
        ("SLEEPWAKE_ENDPOINT", "http://127.0.0.1:8000", {"endpoint": "http://127.0.0.1:8000"}),
        ("SLEEPWAKE_MODEL", "Qwen/Qwen3-0.6B", {"model": "Qwen/Qwen3-0.6B"}),
        ("SLEEPWAKE_OUT", "some where", {"out": Path("some where")}),
        ("SLEEPWAKE_VLLM_ARGS", "--seed 3 --x='{\"a\": 1}'", {"vllm_args": ("--seed", "3", '--x={"a": 1}')}),
    ],
)
def test_an_option_can_be_given_by_the_environment(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, given: dict[str, object]
) -> None:
    """It is understood as on the command line, is named as the source, and when empty gives nothing."""
    monkeypatch.setenv(variable, value)
    sources = {"list_cells": "command line", **dict.fromkeys(given, f"environment {variable}")}
    assert vars(asked([])) == {**vars(RunOptions()), **given, "sources": sources}
    monkeypatch.setenv(variable, "")
    assert asked([]) == RunOptions(sources={"list_cells": "command line"})


def test_the_command_line_goes_before_the_environment(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Option by option; a list is not mixed from both."""
    monkeypatch.setenv("SLEEPWAKE_RUNTIME", "docker")
    monkeypatch.setenv("SLEEPWAKE_VLLM_ARGS", "--seed=1 --block-size=64")
    monkeypatch.setenv("SLEEPWAKE_MODEL", "of/the-environment")
    options = asked(["--runtime", "process", "--vllm-arg=--seed=2"])
    assert (options.runtime, options.vllm_args) == ("process", ("--seed=2",))
    assert options.model == "of/the-environment"
    assert {name: options.sources[name] for name in ("runtime", "vllm_args", "model")} == {
        "runtime": "command line",
        "vllm_args": "command line",
        "model": "environment SLEEPWAKE_MODEL",
    }


def test_variables_that_mean_something_else_are_no_options(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLEEPWAKE_FAULT is for engines, SLEEPWAKE_IMAGE_BASE for image builds."""
    for name in ("FAULT", "IMAGE_BASE", "CPU_SLEEP", "DISCARD"):
        monkeypatch.setenv(f"SLEEPWAKE_{name}", "1")
    assert asked([]) == RunOptions(sources={"list_cells": "command line"})


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({"SLEEPWAKE_RUNTIME": "dokcer"}, ["run"]),
        ({"SLEEPWAKE_RUNTIME": "dokcer"}, ["bisect", "scenarios/small.yaml", "--good", "1", "--bad", "2"]),
        ({"SLEEPWAKE_RUNTIME": "dokcer"}, ["selftest"]),
        ({"SLEEPWAKE_VLLM_ARGS": "--seed 'three"}, ["run"]),
        ({"SLEEPWAKE_MODEL": "./nowhere"}, ["run", "--runtime", "process"]),
        ({"SLEEPWAKE_ENDPOINT": "http://127.0.0.1:9"}, ["run", "--vllm", "0.10.0"]),
    ],
)
def test_a_wrong_value_in_the_environment_is_a_usage_error_that_names_the_variable(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    arguments: list[str],
) -> None:
    """Also where it only contradicts the command line: exit 2, and nothing is written."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert call(arguments) == ExitCode.USAGE
    assert next(iter(environment)) in "".join(capsys.readouterr())
    assert not (here / "reports").exists()


def test_a_place_that_cannot_be_written_names_its_variable(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error speaks of --out; that the value came from the environment is told as well."""
    monkeypatch.setenv("SLEEPWAKE_OUT", "scenarios/small.yaml")
    assert call(["run", "--endpoint", served.start()]) == ExitCode.USAGE
    assert "SLEEPWAKE_OUT" in capsys.readouterr().err
    assert (here / "scenarios" / "small.yaml").is_file()


def test_help_names_the_variables(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands beside its option, and so does what wins where an arm sets the same flag."""
    assert call(["run", "--help"]) == ExitCode.CLEAN
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in ("RUNTIME", "VLLM", "IMAGE", "ENDPOINT", "MODEL", "VLLM_ARGS", "OUT"):
        assert f"[env var: SLEEPWAKE_{name}]" in told
    assert "an arm that sets the same flag overrules it" in told
    assert here.exists()


def test_the_run_says_where_every_value_came_from(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In run.json, and not on the screen; the other commands find the run where the variable says."""
    monkeypatch.setenv("SLEEPWAKE_OUT", "elsewhere")
    monkeypatch.setenv("SLEEPWAKE_ENDPOINT", served.start())
    assert call(["run", "--runtime", "attached"]) == ExitCode.CLEAN
    assert "environment SLEEPWAKE" not in capsys.readouterr().out
    assert _sources(here / "elsewhere" / "latest") == {
        **dict.fromkeys(RunOptions.model_fields.keys() - {"sources"}, "default"),
        "runtime": "command line",
        "endpoint": "environment SLEEPWAKE_ENDPOINT",
        "out": "environment SLEEPWAKE_OUT",
    }
    cell = _sources_of_the_cell(here / "elsewhere" / "latest")
    asked = ("sampling.max_tokens", "sampling.seed", "deadlines.boot", "concurrency", "flags")
    assert {name: cell[name] for name in asked} == {
        "sampling.max_tokens": "scenario",
        "sampling.seed": "default",
        "deadlines.boot": "scenario",
        "concurrency": "default",
        "flags": {"--enable-prefix-caching": "scenario"},
    }
    assert call(["check"]) == ExitCode.CLEAN
    assert call(["history"]) == ExitCode.CLEAN
    assert "small" not in capsys.readouterr().err


@pytest.mark.cell
def test_resuming_keeps_the_runs_own_options_whatever_the_environment_says(
    here: Path, served: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that changed since is no contradiction; an option on the command line is."""
    monkeypatch.setenv("SLEEPWAKE_ENDPOINT", served.start())
    assert call(["run", "--out", "elsewhere"]) == ExitCode.CLEAN
    before = _sources(here / "elsewhere" / "latest")
    monkeypatch.setenv("SLEEPWAKE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("SLEEPWAKE_MODEL", "another/model")
    monkeypatch.setenv("SLEEPWAKE_OUT", "elsewhere")
    history = cell_folder(here / "elsewhere" / "latest", "small.only") / "history.jsonl"
    history.write_bytes(b"".join(history.read_bytes().splitlines(keepends=True)[:8]))
    assert call(["run", "--resume", "latest"]) == ExitCode.CLEAN
    assert _sources(here / "elsewhere" / "latest") == before
    capsys.readouterr()
    assert call(["run", "--resume", "latest", "--model", "another/model"]) == ExitCode.USAGE
    assert "--model another/model; the run has none" in capsys.readouterr().err


def test_an_arm_overrules_the_command_line_and_that_the_defaults(
    here: Path, in_process: InProcessRuntime, toy_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms are what is compared: a flag for all of them cannot make two of them the same."""
    monkeypatch.setattr(workflow, "choose", lambda _: Choice(runtime=in_process, reason="for the test"))
    monkeypatch.setenv("SLEEPWAKE_MODEL", str(toy_model_folder))
    monkeypatch.setenv("SLEEPWAKE_VLLM_ARGS", "--no-enable-prefix-caching --block-size 64")
    assert call(["run"]) == ExitCode.CLEAN
    directory = here / "reports" / "latest"
    server = load_recording(cell_folder(directory, "small.only")).server
    assert server
    assert isinstance(server.configuration, dict)
    in_effect = {"block_size": 64, "num_gpu_blocks": Options.blocks, "enable_prefix_caching": True}
    assert in_effect in server.configuration.values()
    assert _sources_of_the_cell(directory)["flags"] == {
        "--enable-prefix-caching": "scenario",
        "--block-size": "environment SLEEPWAKE_VLLM_ARGS",
    }


@pytest.mark.parametrize("name", ["ARM", "K", "EXPRESSION"])
def test_an_option_that_no_variable_gives_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are options of one call, and are given on the command line."""
    monkeypatch.setenv(f"SLEEPWAKE_{name}", "1")
    assert call(["run", "--list"]) == ExitCode.USAGE


def test_a_misspelt_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would silently change nothing."""
    monkeypatch.setenv("SLEEPWAKE_RUNTIM", "docker")
    assert call(["run", "--list"]) == ExitCode.USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert "SLEEPWAKE_RUNTIM: there is no such environment variable" in said
    assert "did you mean SLEEPWAKE_RUNTIME?" in said


def test_what_kubernetes_says_of_services_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each container is told of every Service of its namespace, such as the one before a watch."""
    said = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "9109",
        "SERVICE_PORT_METRICS": "9109",
        "PORT": "tcp://10.0.0.1:9109",
        "PORT_9109_TCP": "tcp://10.0.0.1:9109",
        "PORT_9109_TCP_ADDR": "10.0.0.1",
    }
    for name, value in said.items():
        monkeypatch.setenv(f"SLEEPWAKE_WATCH_{name}", value)
    assert call(["run", "--list", "--smoke"]) == ExitCode.CLEAN
    monkeypatch.delenv("SLEEPWAKE_WATCH_SERVICE_HOST")
    assert call(["run", "--list", "--smoke"]) == ExitCode.USAGE
    assert "SLEEPWAKE_WATCH_PORT: there is no such" in capsys.readouterr().err


def test_every_variable_that_is_read_is_known() -> None:
    """Those of image builds are put together from their prefix."""
    sources = "".join(
        path.read_text(encoding="utf-8") for path in Path(workflow.__file__).parent.rglob("*.py")
    )
    assert set(re.findall(r"SLEEPWAKE_[A-Z_]*[A-Z]", sources)) <= VARIABLES
    assert {f"SLEEPWAKE_IMAGE_{name.upper()}" for name in BuildOptions.__dataclass_fields__} <= VARIABLES
