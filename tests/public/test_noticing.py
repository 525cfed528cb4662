"""Noticing what is done to an engine changes nothing of what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sleepwake._noticing import Noticing
from tests.public.scripted_llm import ScriptedLLM


@pytest.fixture
def llm() -> ScriptedLLM:
    """A sound engine."""
    return ScriptedLLM()


@pytest.fixture
def noticing(llm: ScriptedLLM) -> Iterator[Noticing]:
    """Notices what is done to it."""
    noticing = Noticing(llm)
    yield noticing
    noticing.stop()


def test_a_call_is_passed_on_and_kept(llm: ScriptedLLM, noticing: Noticing) -> None:
    """With its parameters by name, however they were given, what came back and how long ago it was."""
    llm.sleep(2)
    assert llm.wake_up(tags=["weights"]) is False
    sleep, wake_up = noticing.take()
    assert (sleep["name"], sleep["method"], sleep["parameters"]) == (
        "sleep",
        "ScriptedLLM.sleep",
        {"level": 2},
    )
    assert (wake_up["parameters"], wake_up["result"]) == ({"tags": ["weights"]}, False)
    assert sleep["ago"] >= wake_up["ago"] >= wake_up["seconds"] >= 0
    assert noticing.take() == []


def test_a_call_that_raises_raises(llm: ScriptedLLM, noticing: Noticing) -> None:
    """And is kept as one that failed."""
    with pytest.raises(NotImplementedError):
        llm.collective_rpc("save_sharded_state")
    (call,) = noticing.take()
    assert call["failure"] == "NotImplementedError: save_sharded_state"


def test_what_is_not_plain_is_told_by_its_name(llm: ScriptedLLM, noticing: Noticing) -> None:
    """Functions are sent to workers, tensors too; neither belongs into a history."""
    with pytest.raises(NotImplementedError):
        llm.collective_rpc(test_a_call_is_passed_on_and_kept)  # type: ignore[arg-type]
    (call,) = noticing.take()
    assert call["parameters"] == {"method": "test_a_call_is_passed_on_and_kept"}


def test_a_call_that_does_not_fit_is_refused_as_ever(llm: ScriptedLLM, noticing: Noticing) -> None:
    """By the engine, not by whoever notices."""
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        llm.sleep(depth=1)  # type: ignore[call-arg]
    assert noticing.take()[0]["parameters"] == {}


def test_methods_are_given_back(llm: ScriptedLLM) -> None:
    """Those of the class are its own again, and what somebody else had put in their place is there again."""

    def somebodys(level: int = 1) -> str:
        return f"level {level}"

    llm.sleep = somebodys  # type: ignore[assignment,method-assign]
    noticing = Noticing(llm)
    assert llm.sleep(2) == "level 2"  # type: ignore[func-returns-value]
    assert "wake_up" in vars(llm)
    noticing.stop()
    assert llm.sleep is somebodys  # type: ignore[comparison-overlap]
    assert "wake_up" not in vars(llm)


async def _awaited(llm: Any) -> list[str]:
    noticing = Noticing(llm)
    await asyncio.gather(llm.update_weights(), llm.sleep())
    return [call["name"] for call in noticing.take()]


def test_what_an_engine_calls_itself_is_no_call_of_its_user() -> None:
    """An ``AsyncLLM`` hands weights to its workers by a method that users have as well."""

    class Updating:
        async def update_weights(self) -> None:
            await self.collective_rpc("update_weights")

        async def collective_rpc(self, method: str) -> str:
            await asyncio.sleep(0)
            return method

        async def sleep(self) -> None:
            await asyncio.sleep(0)

    assert sorted(asyncio.run(_awaited(Updating()))) == ["sleep", "update_weights"]
