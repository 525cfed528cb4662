"""Which cells a runtime can run, by what they require."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.fitting import fit
from harness.runs.options import RunOptions
from harness.scenario.cells import Cell
from harness.scenario.schema import Scenario
from harness.servers.attached import AttachedRuntime
from harness.servers.base import Runtime
from harness.servers.process.runtime import ProcessRuntime


def _cell(name: str, requires: str | None = None, *, steps: Sequence[object] = ()) -> Cell:
    scenario = Scenario.model_validate(
        {
            "name": name,
            "why": "because",
            "requires": requires,
            "arms": {"only": {}},
            "prompts": {"corpus": "words"},
            "script": [{"probe": "baseline"}, *steps],
        }
    )
    return Cell(
        scenario=scenario,
        scenario_path=Path(f"{name}.yaml"),
        arm_name="only",
        arm=scenario.arms["only"],
        prompts=(),
        held_out=(),
    )


PICTURES, FAULT = _cell("pictures", "pictures"), _cell("selftest", "fault")
ANYWHERE, GPU, GPU_TOO = _cell("anywhere"), _cell("graphs", "gpu"), _cell("hybrid", "gpu")


@pytest.fixture
def cpu(tmp_path: Path) -> ProcessRuntime:
    """A runtime whose engine computes on a CPU."""
    return ProcessRuntime(engine="cpu", cache=tmp_path)


def test_what_needs_a_gpu_is_left_out_on_a_cpu(cpu: ProcessRuntime) -> None:
    """The rest runs, and one line names every cell that does not and says why."""
    cells, left_out = fit([GPU, ANYWHERE, GPU_TOO], cpu, RunOptions())
    assert cells == [ANYWHERE]
    assert left_out is not None
    assert "graphs.only" in left_out
    assert "hybrid.only" in left_out
    assert "GPU" in left_out


def test_nothing_is_left_out_without_need(cpu: ProcessRuntime, tmp_path: Path) -> None:
    """A GPU runs everything, and nobody knows what an attached server computes on."""
    runtimes: list[Runtime] = [
        ProcessRuntime(engine="gpu", cache=tmp_path),
        AttachedRuntime(endpoint="http://127.0.0.1:1"),
    ]
    for runtime in runtimes:
        assert fit([GPU, ANYWHERE], runtime, RunOptions()) == ([GPU, ANYWHERE], None)
    assert fit([ANYWHERE], cpu, RunOptions()) == ([ANYWHERE], None)


def test_calls_that_overlap_are_for_servers_of_our_own(cpu: ProcessRuntime) -> None:
    """What nobody can say the state of cannot be given back as it was."""
    both: list[object] = [{"sleep": {}}, {"wake_up": {}}]
    overlapping = _cell("both", steps=[{"concurrently": both}, {"wake_up": {}}, {"probe": "after"}])
    given_up = _cell("left", steps=[{"pause": {"abandon": {"after": 1}}}, {"resume": {}}, {"probe": "after"}])
    attached = AttachedRuntime(endpoint="http://127.0.0.1:1")
    assert fit([overlapping, given_up], cpu, RunOptions()) == ([overlapping, given_up], None)
    cells, left_out = fit([ANYWHERE, overlapping, given_up], attached, RunOptions())
    assert cells == [ANYWHERE]
    assert left_out is not None
    assert "both.only" in left_out
    assert "left.only" in left_out


def test_a_run_of_nothing_is_a_mistake(cpu: ProcessRuntime) -> None:
    """Where no cell can run, the user hears which and what to do, before anything starts."""
    with pytest.raises(UsageError, match=r"graphs\.only.*needs a GPU") as caught:
        fit([GPU], cpu, RunOptions())
    assert "--endpoint" in str(caught.value)


@pytest.mark.parametrize(
    ("configuration", "runs"),
    [(None, False), ("{}", False), ('{"vision_config": {}}', True), ("not JSON", True)],
)
def test_pictures_take_a_model_that_reads_them(
    cpu: ProcessRuntime,
    tmp_path: Path,
    configuration: str | None,
    runs: bool,  # noqa: FBT001 - pytest passes it by name
) -> None:
    """The default model does not, a folder says so, and a folder that says nothing is told about later."""
    model = None if configuration is None else str(tmp_path)
    (tmp_path / "config.json").write_text(configuration or "")
    cells, left_out = fit([ANYWHERE, PICTURES], cpu, RunOptions(model=model))
    assert (PICTURES in cells) is runs
    assert runs or (left_out and "pictures.only needs a model that reads pictures" in left_out)


def test_a_model_that_nobody_has_looked_at_may_read_pictures(cpu: ProcessRuntime) -> None:
    """One of a hub, or of a server that runs already, is tried."""
    attached = AttachedRuntime(endpoint="http://127.0.0.1:1")
    assert fit([PICTURES], cpu, RunOptions(model="some/model")) == ([PICTURES], None)
    assert fit([PICTURES], attached, RunOptions()) == ([PICTURES], None)


def test_what_shows_that_a_fault_is_noticed_takes_one(cpu: ProcessRuntime) -> None:
    """Without any it would say nothing that the others do not."""
    cells, left_out = fit([ANYWHERE, FAULT], cpu, RunOptions())
    assert (cells, left_out) == (
        [ANYWHERE],
        "left out: selftest.only needs a planted fault: name one with --fault",
    )
    with pytest.raises(UsageError, match="no cell can run") as caught:
        fit([FAULT], cpu, RunOptions())
    assert "sleepwake selftest" in str(caught.value)
    assert fit([FAULT], cpu, RunOptions(fault="lose-weights")) == ([FAULT], None)


@pytest.mark.parametrize(
    ("size", "configuration", "runs"),
    [
        ("2", None, False),
        ("3", None, True),
        ("9", None, True),
        ("2", '{"num_attention_heads": 8, "num_key_value_heads": 1}', True),
        ("4", '{"text_config": {"num_attention_heads": 12, "num_key_value_heads": 3}}', False),
        ("5", '{"num_attention_heads": 8}', False),
        ("5", "{}", True),
        ("all", None, True),
    ],
)
def test_heads_are_shared_out_among_ranks(
    cpu: ProcessRuntime,
    tmp_path: Path,
    size: str,
    configuration: str | None,
    runs: bool,  # noqa: FBT001 - pytest passes it by name
) -> None:
    """What vLLM would refuse in a page of traceback is refused in a sentence, with the sizes that fit."""
    (tmp_path / "config.json").write_text(configuration or "")
    asked = RunOptions(
        model=None if configuration is None else str(tmp_path), vllm_args=("--tensor-parallel-size", size)
    )
    if runs:
        assert fit([ANYWHERE], cpu, asked) == ([ANYWHERE], None)
        return
    with pytest.raises(UsageError, match="its attention heads do not allow") as caught:
        fit([ANYWHERE], cpu, asked)
    assert "--tensor-parallel-size can be 1, " in str(caught.value)
    attached = AttachedRuntime(endpoint="http://127.0.0.1:1")
    assert fit([ANYWHERE], attached, asked) == ([ANYWHERE], None)


def test_a_fault_that_has_nothing_to_break_is_refused(cpu: ProcessRuntime) -> None:
    """Planted where it can do nothing it would be called clean, as if it had been missed."""
    with pytest.raises(UsageError, match=r"anywhere\.only loads no adapter that lose-adapters could break"):
        fit([ANYWHERE], cpu, RunOptions(fault="lose-adapters", vllm_args=("--enable-lora",)))
    with pytest.raises(UsageError, match=r"has no --speculative-config, without which lose-draft-weights"):
        fit([ANYWHERE], cpu, RunOptions(fault="scale-logits,lose-draft-weights"))
    with_drafts = RunOptions(fault="lose-draft-weights", vllm_args=("--speculative-config={}",))
    assert fit([ANYWHERE], cpu, with_drafts) == ([ANYWHERE], None)
