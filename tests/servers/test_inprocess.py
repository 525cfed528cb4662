"""The inprocess runtime: which class it holds, and where it can."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import RuntimeUnavailableError
from harness.servers import inprocess
from harness.servers.inprocess import InprocessRuntime, held_class
from tests.servers.conftest import TOY_ENGINE, SpecFactory


@pytest.mark.parametrize(
    ("args", "needs_async", "held"),
    [
        ((), False, "LLM"),
        ((), True, "AsyncLLM"),
        (("--data-parallel-size", "2"), False, "AsyncLLM"),
        (("-tp", "3"), False, "LLM"),
    ],
)
def test_an_llm_is_held_wherever_it_can_do_what_is_asked(
    make_spec: SpecFactory, args: tuple[str, ...], held: str, *, needs_async: bool
) -> None:
    """Otherwise an ``AsyncLLM``: it has more methods, and takes several replicas."""
    assert held_class(replace(make_spec(*args), needs_async=needs_async)) == held


def test_the_command_says_what_is_held(make_spec: SpecFactory) -> None:
    """Whoever types it holds the same."""
    command = InprocessRuntime(engine="cpu").command(make_spec("--enforce-eager"))
    assert f"{sys.executable} -P -m sleepwake._engine_holder --hold LLM --model toy/model" in command


@pytest.mark.parametrize("installed", [None, "0.31.0"])
def test_a_release_that_it_does_not_know_is_refused(
    monkeypatch: pytest.MonkeyPatch, installed: str | None
) -> None:
    """Before anything starts, and with what to do."""
    monkeypatch.setattr(inprocess, "installed_vllm", lambda: installed)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(RuntimeUnavailableError, match=r"from 0\.32\.0 on"):
        InprocessRuntime(engine="cpu").check_available()


@pytest.mark.anyio
async def test_it_comes_and_goes_as_a_server_does(make_spec: SpecFactory, cache: Path) -> None:
    """What is known of a child process is known of one that holds an engine, and nothing is left of it."""
    runtime = InprocessRuntime(engine_command=TOY_ENGINE, engine="cpu", cache=cache, stop_grace_s=0.5)
    async with runtime.start(make_spec()) as server:
        assert server.facts.runtime == "inprocess"
        assert await server.death() is None
        assert (await server.measure_memory()).per_process
    assert (await server.measure_memory()).per_process == {}
