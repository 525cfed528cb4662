"""``sleepwake.guard`` as a program uses it: an engine here, the judge in a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import sleepwake
from sleepwake import _guard_child
from tests.public.scripted_llm import ScriptedLLM
from tests.public.test_package import python

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's own process finds this tree, and no switch of a developer's is on."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'harness' / 'public'}")
    monkeypatch.delenv("SLEEPWAKE_GUARD", raising=False)


@pytest.fixture
def llm() -> ScriptedLLM:
    """A sound engine."""
    return ScriptedLLM()


@pytest.fixture
def guard(llm: ScriptedLLM, tmp_path: Path) -> Iterator[sleepwake.Guard]:
    """Its guard."""
    with sleepwake.guard(llm, out=tmp_path) as guard:
        yield guard


def test_a_verdict_is_an_object(llm: ScriptedLLM, guard: sleepwake.Guard, tmp_path: Path) -> None:
    """Its values are those of the enumerations, and the recording it rests on can be judged again."""
    llm.sleep(level=2)
    llm.wake_up()
    verdict = guard.check()
    assert verdict.verdict == sleepwake.Verdict.CORRUPT
    assert verdict.cause == sleepwake.Cause.LOST_WEIGHTS
    assert verdict.witness is not None
    assert verdict.tokens > 0
    assert verdict.seconds > 0
    assert guard.directory is not None
    assert guard.directory.parent == tmp_path
    assert sleepwake.check(guard.directory).result.cells[0].reason == verdict.reason
    with pytest.raises(sleepwake.NotCleanError, match=r"^corrupt \(lost weights\): answers to 8 of 8"):
        verdict.raise_for_verdict()


@pytest.mark.cell
def test_an_adapter_may_be_guarded(llm: ScriptedLLM, tmp_path: Path) -> None:
    """It is named with every question, as vLLM's own requests name it."""
    adapter = object()
    with sleepwake.guard(llm, lora_request=adapter, out=tmp_path) as guard:
        guard.check()
    assert set(llm.adapters) == {adapter}


@pytest.mark.cell
def test_a_step_is_checked_after_each_call(llm: ScriptedLLM, guard: sleepwake.Guard) -> None:
    """It returns what it returns as long as nothing is wrong, and raises where something is."""

    @guard.step
    def step(level: int) -> int:
        llm.sleep(level=level)
        llm.wake_up()
        return level

    assert step(1) == 1
    with pytest.raises(sleepwake.NotCleanError) as raised:
        step(2)
    assert raised.value.verdict.cause == sleepwake.Cause.LOST_WEIGHTS


@pytest.mark.cell
def test_new_weights_may_be_expected(llm: ScriptedLLM, guard: sleepwake.Guard) -> None:
    """Held against an engine that has them, as long as that one is awake."""
    reference = ScriptedLLM(weights="new")
    guard.expect_new_weights(reference=reference)
    llm.weights = "new"
    llm.reset_prefix_cache()
    assert guard.check().verdict == sleepwake.Verdict.CLEAN
    guard.expect_new_weights()
    assert "not compared" in guard.check().reason
    reference.sleep()
    with pytest.raises(sleepwake.GuardError, match="the reference is asleep"):
        guard.expect_new_weights(reference=reference)


@pytest.mark.cell
def test_an_engine_that_is_asleep_is_not_asked(llm: ScriptedLLM, guard: sleepwake.Guard) -> None:
    """It would let every request wait for ever; what was noticed is judged once it is awake."""
    llm.sleep()
    verdict = guard.check()
    assert (verdict.verdict, verdict.tokens) == (sleepwake.Verdict.INCONCLUSIVE, 0)
    assert "wake it before the check" in verdict.reason
    verdict.raise_for_verdict()
    llm.wake_up()
    assert guard.check().verdict == sleepwake.Verdict.CLEAN


@pytest.mark.cell
def test_what_the_engine_raises_reaches_its_user(llm: ScriptedLLM, guard: sleepwake.Guard) -> None:
    """The guard swallows nothing, and goes on once the engine does."""
    llm.raises = ValueError("out of order")
    with pytest.raises(ValueError, match="out of order"):
        guard.check()
    llm.raises = None
    assert guard.check().verdict == sleepwake.Verdict.CLEAN


@pytest.mark.cell
def test_an_interrupted_check_ends_the_guard(
    llm: ScriptedLLM, guard: sleepwake.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be said next could be the answer to something else."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_guard_child.Child, "say", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guard.check()
    with pytest.raises(sleepwake.GuardError, match="make a new guard"):
        guard.check()
    assert llm.wake_up() is True


@pytest.mark.cell
def test_a_judge_that_is_gone_is_told(llm: ScriptedLLM, guard: sleepwake.Guard) -> None:
    """In words, with what to do; the engine is not to blame."""
    guard._child._process.kill()
    guard._child._process.wait()
    with pytest.raises(sleepwake.GuardError, match="ended with -9: make a new guard"):
        guard.check()
    assert llm.wake_up() is True


@pytest.mark.cell
def test_a_guard_that_is_closed_leaves_nothing_behind(llm: ScriptedLLM, tmp_path: Path) -> None:
    """Neither a process nor a method that is not the engine's own."""
    before = set(vars(llm))
    guard = sleepwake.guard(llm, out=tmp_path)
    guard.close()
    guard.close()
    assert set(vars(llm)) == before
    assert guard._child._process.returncode == 0
    with pytest.raises(sleepwake.GuardError, match="closed"):
        guard.check()


@pytest.mark.cell
def test_a_guard_that_cannot_begin_leaves_nothing_behind(llm: ScriptedLLM, tmp_path: Path) -> None:
    """What is refused is refused with a remedy."""
    before = set(vars(llm))
    with pytest.raises(sleepwake.GuardError, match="allow 128"):
        sleepwake.guard(llm, budget_tokens=1, out=tmp_path)
    assert set(vars(llm)) == before


def test_turned_off_it_costs_nothing(
    llm: ScriptedLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No question, no process, no file, and no call that is looked at."""
    monkeypatch.setenv("SLEEPWAKE_GUARD", "off")
    before = set(vars(llm))

    def step() -> None: ...

    with sleepwake.guard(llm, out=tmp_path) as guard:
        assert guard.step(step) is step
        guard.expect_new_weights()
        verdict = guard.check()
    assert (verdict.verdict, verdict.reason) == (
        sleepwake.Verdict.INCONCLUSIVE,
        "guards are turned off (SLEEPWAKE_GUARD=off)",
    )
    assert (set(vars(llm)), llm.asked, [*tmp_path.iterdir()]) == (before, [], [])


def test_what_is_no_llm_is_refused(llm: ScriptedLLM) -> None:
    """With what to use instead."""

    class Asynchronous(ScriptedLLM):
        async def sleep(self, level: int = 1, mode: str = "abort") -> None:  # type: ignore[override]
            pass

    with pytest.raises(sleepwake.GuardError, match=r"object is no vllm\.LLM"):
        sleepwake.guard(object())
    with pytest.raises(sleepwake.GuardError, match="asynchronous"):
        sleepwake.guard(Asynchronous())
    llm.sleep()
    with pytest.raises(sleepwake.GuardError, match="asleep"):
        sleepwake.guard(llm)


@pytest.mark.cell
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM"])
def test_a_guard_ends_with_its_user(tmp_path: Path, end: str) -> None:
    """However that one ends, and although a process that it forked still has all it had."""
    program = (
        "import os, signal, sleepwake; from tests.public.scripted_llm import ScriptedLLM\n"
        "guard = sleepwake.guard(ScriptedLLM())\n"
        "forked = os.fork()\n"
        "if not forked: os.close(1); os.close(2); signal.pause()\n"
        "print(guard._child._process.pid, forked, flush=True); os.kill(os.getpid(), signal.{end})\n"
    ).replace("{end}", end)
    done = python("-c", program, cwd=tmp_path)
    judge, forked = map(int, done.stdout.split())
    try:
        _wait_for_the_end_of(judge)
    finally:
        os.kill(forked, signal.SIGKILL)


def _wait_for_the_end_of(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=60)


@pytest.mark.cell
def test_its_user_may_have_a_harness_of_their_own(tmp_path: Path) -> None:
    """Nothing of ours is imported beside it: only the guard's own process has the harness."""
    (tmp_path / "harness.py").write_text("OWN = True\n")
    program = (
        "import sys, harness, sleepwake; from tests.public.scripted_llm import ScriptedLLM\n"
        "llm = ScriptedLLM(); guard = sleepwake.guard(llm); llm.sleep(); llm.wake_up()\n"
        "print(guard.check().verdict, harness.OWN, {'numpy', 'pydantic'} & set(sys.modules))\n"
    )
    done = python("-c", program, cwd=tmp_path, path=str(tmp_path))
    assert (done.stdout, done.stderr) == ("clean True set()\n", "")
    assert (tmp_path / "reports" / "latest" / "run.json").is_file()
