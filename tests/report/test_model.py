"""What every format renders."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from harness.history.run_description import AskedOptions, DescribedCell, DescribedScenario, RunDescription
from harness.report.model import assemble, last_moment, reproduce_command
from harness.report.remarks import remarks
from tests.report import examples


def run_from(scenario_file: str) -> RunDescription:
    """A run whose clean cell was read from this file."""
    asked = DescribedCell(scenario_file=scenario_file)
    return RunDescription(run="r", cells={examples.clean_cell().cell: asked})


def test_reproduce_command_names_everything_that_decides_the_run() -> None:
    """Scenario file, arm, fault, runtime and version are all in the command."""
    cell = examples.corrupt_cell()
    asked = DescribedCell(scenario_file="scenarios/prefix_cache_level1.yaml")
    command = reproduce_command(cell, RunDescription(run="r", cells={cell.cell: asked}))
    assert command == (
        "sleepwake run scenarios/prefix_cache_level1.yaml --arm prefix-cache-on "
        "--fault keep-prefix-cache --runtime process --vllm 0.32.0"
    )


def test_reproduce_command_is_safe_to_paste() -> None:
    """A path with spaces or shell syntax stays one word."""
    command = reproduce_command(examples.clean_cell(), run_from("my files/a; rm -rf b.yaml"))
    assert shlex.split(command)[2] == "my files/a; rm -rf b.yaml"


def test_an_engine_in_its_users_process_is_only_judged_again() -> None:
    """No command starts it: its user's program does."""
    cell = examples.clean_cell().model_copy(update={"runtime": "guarded"})
    command = reproduce_command(cell, run_from("small.yaml").model_copy(update={"run": "r 1"}))
    assert command.startswith("sleepwake check 'r 1'  #")


def test_reproduce_command_of_an_attached_server_asks_for_its_address() -> None:
    """An attached server is found by its address, and its version is its own."""
    attached = examples.clean_cell().model_copy(update={"runtime": "attached"})
    command = reproduce_command(attached, run_from("a.yaml"))
    assert command.endswith("--runtime attached --endpoint URL")


def test_reproduce_command_asks_for_what_was_asked_of_every_cell() -> None:
    """Image, model and further flags are the run's own; an image has its version in it."""
    asked = AskedOptions(
        image="registry/vllm:mine",
        model="Qwen/Qwen3-0.6B",
        prompts=Path("my own.jsonl"),
        kinds="regex,choice",
        thorough=True,
    )
    flags = ("--dtype=bfloat16", "--seed", "3")
    run = run_from("a.yaml").model_copy(update={"options": asked, "extra_args": flags})
    cell = examples.clean_cell().model_copy(update={"runtime": "docker", "vllm_version": "0.32.0+cpu"})
    assert reproduce_command(cell, run) == (
        "sleepwake run a.yaml --arm prefix-cache-off --runtime docker --image registry/vllm:mine "
        "--model Qwen/Qwen3-0.6B --prompts 'my own.jsonl' --vllm-arg=--dtype=bfloat16 --vllm-arg=--seed "
        "--vllm-arg=3 --kinds regex,choice --thorough"
    )
    without_image = run.model_copy(update={"options": AskedOptions(model="m")})
    assert "--vllm 0.32.0 --model" in reproduce_command(cell, without_image)


@pytest.mark.parametrize(("arm", "command"), [("small", "a.yaml --arm small"), ("fresh-2", "a.yaml")])
def test_reproduce_command_of_a_trial_names_no_arm(arm: str, command: str) -> None:
    """What a search calls its engines is not in the scenario's file."""
    cell = examples.failed_cell().model_copy(update={"arm": arm, "runtime": None})
    asked = DescribedCell(scenario_file="a.yaml", arm=arm, scenario=DescribedScenario(arms={"small": {}}))
    run = RunDescription(run="r", cells={cell.cell: asked})
    assert reproduce_command(cell, run) == f"sleepwake run {command}"


def test_assemble_finds_the_scenario_file() -> None:
    """The file a scenario was read from is in the command; without it, the shipped one of that name."""
    result = examples.result_of(examples.clean_cell())
    named = assemble(result, {}, run=run_from("mine.yaml"))
    assert "run mine.yaml --arm" in named.cells[0].reproduce
    assert "run prefix-cache-level1 --arm" in assemble(result, {}).cells[0].reproduce


def test_a_cell_lasts_until_its_last_event() -> None:
    """The duration of a cell ends with the last thing recorded, failure included."""
    whole = examples.recording()
    assert last_moment(whole) == max(answer.t for answer in whole.passes[-1].answers.values())
    assert last_moment(examples.failed_recording()) == 12.5


def test_emulated_parts_are_named_once() -> None:
    """What several cells emulate is one entry of the run."""
    assert examples.mixed_report().emulated == ("CPU sleep mode",)


def test_a_batch_invariant_cell_stands_beside_the_one_that_differs_by_nothing_else() -> None:
    """Same scenario, same flags: what the noise floors differ by is what batch invariance removed."""
    arms = {
        "invariant": (("--x",), {"VLLM_BATCH_INVARIANT": "1"}),
        "eager": (("--x", "--enforce-eager"), {}),
        "ordinary": (("--x",), {}),
    }
    recordings = {}
    for arm, (args, env) in arms.items():
        recording = examples.recording(arm=arm)
        cell = recording.cell.model_copy(update={"arm_args": args, "arm_env": env})
        recordings[cell.cell] = replace(recording, cell=cell)
    cells = [examples.clean_cell(arm=arm) for arm in arms]
    report = assemble(examples.result_of(*cells), recordings)
    beside = [each.batches_matter.arm if each.batches_matter else None for each in report.cells]
    assert beside == ["ordinary", None, None]
    said = {remark.label: remark.text for remark in remarks(report.cells[0])}
    assert said["without batch invariance"] == f"ordinary: {said['noise floor']}"
