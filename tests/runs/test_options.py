"""What a user may ask of a run, as one object."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.history.run_description import AskedOptions
from harness.runs.options import RunOptions


def test_a_fault_is_resolved_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is named by its absolute path from then on, wherever the run goes on; that again is the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def plant(): ...\n", encoding="utf-8")
    options = RunOptions(fault="mine.py:plant")
    assert options.fault == f"{tmp_path / 'mine.py'}:plant"
    assert RunOptions(fault=options.fault) == options


def test_an_unknown_fault_is_refused_at_once() -> None:
    """With what was probably meant, before anything is loaded or started."""
    with pytest.raises(UsageError) as refused:
        RunOptions(fault="lose-weigths")
    assert refused.value.remedy == "did you mean 'lose-weights'?"


def test_what_is_stored_is_what_changes_the_run() -> None:
    """Where it is written and how it is spread is the call's own; secrets are nowhere."""
    options = RunOptions(model="m", out=Path("elsewhere"), vllm_args=("--hf-token=abcdefgh12", "--seed=3"))
    asked = options.asked
    assert type(asked) is AskedOptions
    assert (asked.model, asked.vllm_args[1]) == ("m", "--seed=3")
    assert "abcdefgh12" not in asked.model_dump_json()
    assert "out" not in asked.model_dump()


def test_every_option_has_a_source() -> None:
    """What was given says from where; the others are defaults."""
    sources = RunOptions(model="m", vllm="0.10.0", sources={"vllm": "environment SLEEPWAKE_VLLM"}).all_sources
    assert sources.keys() == RunOptions.model_fields.keys() - {"sources"}
    assert {name: told for name, told in sources.items() if told != "default"} == {
        "model": "command line",
        "vllm": "environment SLEEPWAKE_VLLM",
    }


def test_a_run_that_is_carried_on_is_not_changed_by_the_environment() -> None:
    """What the environment says of the run is dropped; where runs are found still counts."""
    sources = {"model": "environment SLEEPWAKE_MODEL", "out": "environment SLEEPWAKE_OUT"}
    options = RunOptions(model="m", out=Path("elsewhere"), arms=("on",), sources=sources)
    kept = options.without_environment()
    assert (kept.model, kept.out, kept.arms) == (None, Path("elsewhere"), ("on",))


def test_a_call_goes_on_with_what_a_run_asked_for() -> None:
    """The run's own options, at the place and with the executor of this call."""
    options = RunOptions(out=Path("here"), executor="ray").of_this_call(AskedOptions(model="m", isolate=True))
    assert (options.out, options.executor, options.model, options.isolate) == (
        Path("here"),
        "ray",
        "m",
        True,
    )
