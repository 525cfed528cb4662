"""Full checks and short ones: whose turn it is, what each asks, and what each notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.result import Cause, Verdict
from tests.guarding.test_guarded import Held
from tests.public.scripted_llm import ScriptedLLM

pytestmark = pytest.mark.anyio


def cycle(llm: ScriptedLLM) -> None:
    """Sleep and wake up."""
    llm.sleep(level=1)
    llm.wake_up()


async def test_the_first_check_is_full_and_every_so_many_are(tmp_path: Path) -> None:
    """The others ask two prompts for four tokens, as they were cached and once more."""
    held = Held(ScriptedLLM(), tmp_path, full_every=3)
    said = []
    for _ in range(7):
        cycle(held.llm)
        said.append(held.check())
    assert [each.full for each in said] == [True, False, False, True, False, False, True]
    assert [each.tokens for each in said[:2]] == [2 * 8 * 16, 2 * 2 * 4]
    assert {each.verdict for each in said} == {Verdict.CLEAN}


async def test_a_short_check_notices_what_every_answer_bears(tmp_path: Path) -> None:
    """Lost weights with their names, and blocks that outlived a sleep; then a full one follows."""
    held = Held(ScriptedLLM(), tmp_path, full_every=10)
    cycle(held.llm)
    assert held.check().full
    held.llm.sleep(level=2)
    held.llm.wake_up()
    lost = held.check()
    assert (lost.full, lost.verdict, lost.cause) == (False, Verdict.CORRUPT, Cause.LOST_WEIGHTS)
    assert "the checksums of 1 parameter changed" in lost.reason
    held.llm.collective_rpc("reload_weights")
    healed = held.check()
    assert (healed.full, healed.verdict) == (True, Verdict.CLEAN)
    held.llm.keeps_prefix_cache = True
    cycle(held.llm)
    stale = held.check()
    assert (stale.full, stale.verdict, stale.cause) == (False, Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)


async def test_a_reference_is_asked_what_the_next_check_asks(tmp_path: Path) -> None:
    """A full check waits for the next reference where only a short one's answers are known."""
    held = Held(ScriptedLLM(), tmp_path, full_every=2)
    full = []
    for number in range(1, 4):
        held.llm.weights = f"step {number}"
        held.llm.reset_prefix_cache()
        reference = ScriptedLLM(weights=held.llm.weights)
        held.expect(reference)
        asked = {len(prompts) for prompts in reference.asked}
        assert asked == ({8, 2} if number != 2 else {2})
        said = held.check()
        assert said.verdict == Verdict.CLEAN, said.reason
        full.append(said.full)
        if number == 2:
            cycle(held.llm)
            assert not held.check().full
    assert full == [True, False, True]


async def test_weights_that_did_not_arrive_are_noticed_by_a_short_check(tmp_path: Path) -> None:
    """Against the reference that has them."""
    held = Held(ScriptedLLM(), tmp_path, full_every=10)
    for number in range(1, 3):
        held.expect(ScriptedLLM(weights=f"step {number}"))
        held.llm.weights = "step 1"
        held.llm.reset_prefix_cache()
        said = held.check()
    assert (said.full, said.verdict, said.cause) == (False, Verdict.CORRUPT, Cause.LOST_WEIGHTS)


async def test_new_weights_without_a_reference_make_every_baseline_anew(tmp_path: Path) -> None:
    """The check that takes them asks all prompts; a short one after it is held against the new answers."""
    held = Held(ScriptedLLM(), tmp_path, full_every=10)
    cycle(held.llm)
    held.check()
    held.expect(None)
    held.llm.weights = "new"
    held.llm.reset_prefix_cache()
    assert held.check().verdict == Verdict.INCONCLUSIVE
    assert held.check().full
    cycle(held.llm)
    said = held.check()
    assert (said.full, said.verdict) == (False, Verdict.CLEAN)


async def test_in_noise_every_check_is_full(tmp_path: Path) -> None:
    """Two prompts tell nothing there."""
    held = Held(ScriptedLLM(dtype="torch.bfloat16"), tmp_path, full_every=10)
    for _ in range(2):
        cycle(held.llm)
        assert held.check().full
