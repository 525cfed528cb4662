"""``sleepwake.async_guard`` as a program uses it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sleepwake
from harness.runs.judging import judge_directory
from sleepwake._guarded_llm import GuardedAsyncLLM
from tests.public.scripted_llm import SamplingParams, ScriptedAsyncLLM, ScriptedLLM

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's own process finds this tree, and vLLM has what a guard takes of it."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'harness' / 'public'}")
    monkeypatch.delenv("SLEEPWAKE_GUARD", raising=False)
    monkeypatch.setitem(
        sys.modules, "vllm", SimpleNamespace(SamplingParams=SamplingParams, __version__="0.32.0")
    )


async def test_a_sound_engine_is_clean_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    """All prompts are asked at once; what was called is in the recording."""
    llm = ScriptedAsyncLLM()
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        await llm.sleep()
        assert "wake it before the check" in (await guard.check()).reason
        await llm.wake_up()
        await llm.pause_generation()
        await llm.resume_generation()
        clean = await guard.check()
        assert (clean.verdict, llm.most_at_once) == (sleepwake.Verdict.CLEAN, 8)
        await llm.sleep(level=2)
        await llm.wake_up()
        damaged = await guard.check()
    assert (damaged.verdict, damaged.cause) == (sleepwake.Verdict.CORRUPT, sleepwake.Cause.LOST_WEIGHTS)
    assert clean.directory is not None
    recording = judge_directory(clean.directory.parents[1]).recordings[clean.directory.name]
    assert [call.path for call in recording.calls] == ["/sleep", "/wake_up", "/pause", "/resume"]
    assert recording.counted is not None
    assert recording.counted.ended is None, "others may have asked meanwhile"
    assert recording.server is not None
    assert recording.server.vllm_version == "0.32.0"


@pytest.mark.cell
async def test_a_step_is_checked_after_each_call(tmp_path: Path) -> None:
    """It returns what it returns, or raises."""
    llm = ScriptedAsyncLLM()
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:

        @guard.step
        async def step(level: int) -> int:
            await llm.sleep(level=level)
            await llm.wake_up()
            return level

        assert await step(1) == 1
        with pytest.raises(sleepwake.NotCleanError):
            await step(2)


@pytest.mark.cell
async def test_checks_wait_for_each_other_and_the_loop_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else the loop does goes on while the guard's own process judges."""
    llm = ScriptedAsyncLLM()
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        say, goes_on = guard._child.say, threading.Event()

        def say_later(message: Mapping[str, Any]) -> dict[str, Any]:
            goes_on.wait()
            return say(message)

        monkeypatch.setattr(guard._child, "say", say_later)
        checks = asyncio.gather(guard.check(), guard.check())
        asyncio.get_running_loop().call_later(0, goes_on.set)
        assert [told.verdict for told in await checks] == ["clean", "clean"]


@pytest.mark.cell
async def test_new_weights_may_be_expected(tmp_path: Path) -> None:
    """Held against an engine that has them, as long as that one is awake."""
    llm, reference = ScriptedAsyncLLM(), ScriptedAsyncLLM(ScriptedLLM(weights="new"))
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        await guard.expect_new_weights(reference=reference)
        llm.engine.weights = "new"
        llm.engine.reset_prefix_cache()
        assert (await guard.check()).verdict == sleepwake.Verdict.CLEAN
        await guard.expect_new_weights()
        assert "not compared" in (await guard.check()).reason
        await reference.sleep()
        with pytest.raises(sleepwake.GuardError, match="the reference is asleep"):
            await guard.expect_new_weights(reference=reference)


@pytest.mark.cell
async def test_what_the_engine_raises_reaches_its_user(tmp_path: Path) -> None:
    """No request is left under way, and the guard goes on once the engine does."""
    llm = ScriptedAsyncLLM()
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        llm.engine.raises = ValueError("out of order")
        with pytest.raises(ValueError, match="out of order"):
            await guard.check()
        llm.engine.raises = None
        assert (await guard.check()).verdict == sleepwake.Verdict.CLEAN
        assert llm.under_way == 0


@pytest.mark.cell
async def test_a_guard_that_is_closed_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a process nor a method; nor does one that could not begin."""
    llm = ScriptedAsyncLLM()
    before = set(vars(llm))
    guard = await sleepwake.async_guard(llm, out=tmp_path)
    await guard.close()
    await guard.close()
    with pytest.raises(sleepwake.GuardError, match="closed"):
        await guard.check()
    with pytest.raises(sleepwake.GuardError, match="allow 128"):
        await sleepwake.async_guard(llm, budget_tokens=1, out=tmp_path)
    assert set(vars(llm)) == before


async def test_turned_off_it_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No question, no process, no file."""
    monkeypatch.setenv("SLEEPWAKE_GUARD", "off")
    llm = ScriptedAsyncLLM()

    async def step() -> None: ...

    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        assert guard.step(step) is step
        await guard.expect_new_weights()
        assert (await guard.check()).reason == "guards are turned off (SLEEPWAKE_GUARD=off)"
    assert (llm.engine.asked, _in(tmp_path)) == ([], [])


def _in(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


async def test_a_request_that_ends_without_any_output_is_the_engines_failure() -> None:
    """It is told as what an engine raises, in words."""

    class Silent(ScriptedAsyncLLM):
        async def generate(self, *_: object, **__: object) -> AsyncIterator[SimpleNamespace]:
            for each in list[SimpleNamespace]():
                yield each

    question: dict[str, Any] = {"ask": "answers", "sampling": {}, "prompts": [[1, 2]], "salt": None}
    with pytest.raises(RuntimeError, match="without any output"):
        await GuardedAsyncLLM(Silent()).answer(question)


async def test_what_cannot_be_guarded_is_refused() -> None:
    """With what to use instead."""
    llm = ScriptedAsyncLLM()
    with pytest.raises(sleepwake.GuardError, match=r"`await sleepwake\.async_guard\(llm\)`"):
        sleepwake.guard(llm)
    with pytest.raises(sleepwake.GuardError, match=r"`sleepwake\.guard` takes a vllm\.LLM"):
        await sleepwake.async_guard(ScriptedLLM())
    await llm.sleep()
    with pytest.raises(sleepwake.GuardError, match="asleep"):
        await sleepwake.async_guard(llm)


@pytest.mark.cell
async def test_a_reference_may_answer_in_its_callers_thread(tmp_path: Path) -> None:
    """Such as a trainer's own model, which tells its checksums as well: a weight that is another is named."""
    llm, trainer = ScriptedAsyncLLM(), Trainer(weights="new")
    async with await sleepwake.async_guard(llm, out=tmp_path) as guard:
        await guard.expect_new_weights(reference=trainer)
        llm.engine.weights = "half of the new ones"
        llm.engine.reset_prefix_cache()
        assert (await guard.check()).cause == sleepwake.Cause.LOST_WEIGHTS
    assert trainer.checksums_told == 1


class Trainer(ScriptedLLM):
    """Has no workers, and tells by a method of its own."""

    checksums_told = 0

    def compute_weight_checksums(self) -> list[dict[str, str]]:
        """As an ``AsyncLLM``, though without waiting."""
        self.checksums_told += 1
        return [self.checksums()]
