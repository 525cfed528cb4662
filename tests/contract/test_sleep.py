"""What sleeping and waking do, and who can tell."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.generation import Generation, generate
from tests.contract.conftest import CALL_DEADLINE_S, Subject
from tests.contract.test_generation import assert_same, assert_same_tokens

pytestmark = pytest.mark.anyio

_SHORT_S = 1.0
"""Long enough for a healthy engine that is warm to begin answering."""


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition holds; fail after a deadline."""
    with anyio.fail_after(CALL_DEADLINE_S):
        while not await condition():
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(("level", "state"), [(0, "paused"), (1, "weights_offloaded"), (2, "discard_all")])
async def test_every_level_shows(subject: Subject, level: lifecycle.SleepLevel, state: str) -> None:
    """Sleeping shows in the answer, in ``/is_sleeping`` and, by level, in the metrics; waking as well."""
    assert (await subject.is_sleeping(), (await subject.metrics()).sleep_state) == (False, "awake")
    assert (await subject.sleep(level)).body == {"status": "sleeping", "level": level}
    assert (await subject.is_sleeping(), (await subject.metrics()).sleep_state) == (True, state)
    assert (await subject.wake_up()).body == {"status": "awake", "tags": None}
    assert (await subject.is_sleeping(), (await subject.metrics()).sleep_state) == (False, "awake")


async def test_level_0_keeps_everything(subject: Subject) -> None:
    """After level 0 the answer is the same and the prompt still cached."""
    await subject.generate()
    warm = await subject.generate()
    await subject.sleep(0)
    await subject.wake_up()
    after = await subject.generate()
    assert after.cached_tokens == warm.cached_tokens != 0
    assert_same(after, warm)


async def test_level_1_restores_the_weights_and_forgets_the_cache(subject: Subject) -> None:
    """After level 1 the answer is the same and nothing is cached."""
    before = await subject.generate(max_tokens=32)
    await subject.sleep(1)
    await subject.wake_up()
    after = await subject.generate(max_tokens=32)
    assert after.cached_tokens == 0
    assert_same(after, before)


async def test_level_2_without_a_reload_answers_nothing(subject: Subject) -> None:
    """Without weights the answer is the first token of the vocabulary to the cap, and no text."""
    await subject.sleep(2)
    await subject.wake_up()
    answer = await subject.generate()
    assert answer.token_ids == (0,) * 8
    assert (answer.text, answer.finish_reason) == ("", "length")


async def test_level_2_recovers_as_documented(subject: Subject) -> None:
    """Waking the weights, reloading them and waking the cache brings the same answers back."""
    before = await subject.generate(max_tokens=32)
    await subject.sleep(2)
    assert (await subject.wake_up("weights")).body == {"status": "sleeping", "tags": ["weights"]}
    assert (await subject.is_sleeping(), (await subject.metrics()).sleep_state) == (True, "discard_all")
    await subject.reload_weights()
    assert (await subject.wake_up("kv_cache")).body == {"status": "awake", "tags": ["kv_cache"]}
    assert await subject.is_sleeping() is False
    after = await subject.generate(max_tokens=32)
    assert after.cached_tokens == 0
    assert_same(after, before)


async def test_what_was_cached_without_weights_outlives_the_reload(subject: Subject) -> None:
    """Blocks computed before the reload stay in the prefix cache and spoil answers until it is reset."""
    before = await subject.generate(max_tokens=16)
    await subject.sleep(2)
    await subject.wake_up()
    await subject.generate()
    await subject.reload_weights()
    spoilt = await subject.generate(max_tokens=16)
    assert spoilt.cached_tokens
    assert spoilt.token_ids != before.token_ids
    await subject.reset_prefix_cache()
    assert_same(await subject.generate(max_tokens=16), before)


async def test_weight_checksums_tell_lost_weights(subject: Subject) -> None:
    """Checksums are the same after level 1, others after level 2, the same again after the reload."""

    async def checksums() -> dict[str, object]:
        result = await lifecycle.weight_checksums(subject.connection.http, deadline_s=CALL_DEADLINE_S)
        found = result.field("checksums")
        assert isinstance(found, dict), result
        return {**found}

    before = await checksums()
    # An engine that takes adapters wraps its layers, and names what they hold accordingly.
    assert any(re.search(r"model\.embed_tokens\.(base_layer\.)?weight$", name) for name in before)
    await subject.sleep(1)
    await subject.wake_up()
    assert await checksums() == before
    await subject.sleep(2)
    assert await checksums() != before
    await subject.wake_up()
    lost = await checksums()
    assert lost.keys() == before.keys()
    assert all(lost[name] != before[name] for name in before)
    await subject.reload_weights()
    assert await checksums() == before


async def test_a_request_to_a_sleeping_engine_waits_for_its_deadline(subject: Subject) -> None:
    """Nothing comes back until the deadline, ``/health`` is green, and the request is forgotten then."""
    await subject.generate()
    await subject.sleep(1)
    answer = await generate(subject.connection.openai, subject.request(deadline_s=_SHORT_S))
    assert answer.error is not None
    assert answer.error.kind == "timeout"
    assert answer.seconds >= _SHORT_S
    assert answer.token_ids == ()
    assert (await lifecycle.health(subject.connection.http, deadline_s=CALL_DEADLINE_S)).ok
    await subject.wake_up()
    await eventually(lambda: is_idle(subject))


async def test_metrics_do_not_show_who_waits_for_a_sleeper(subject: Subject) -> None:
    """The gauges rest while nothing is scheduled, so a hanging request cannot be seen in them."""
    await subject.generate()
    await subject.sleep(1)
    async with meanwhile(subject.generate):
        await let_arrive(subject)
        metrics = await subject.metrics()
        await subject.wake_up()
    assert (metrics.requests_running, metrics.requests_waiting) == (0, 0)


async def test_sleeping_deeper_changes_the_metrics_alone(subject: Subject) -> None:
    """An engine asleep at level 1 that is sent to level 2 says so, and keeps its backup all the same."""
    before = await subject.generate()
    await subject.sleep(1)
    assert (await subject.sleep(2)).body == {"status": "sleeping", "level": 2}
    assert (await subject.metrics()).sleep_state == "discard_all"
    await subject.wake_up()
    assert_same(await subject.generate(), before)


async def test_resuming_does_not_wake(subject: Subject) -> None:
    """``/resume`` on a sleeping engine succeeds, and the engine stays asleep."""
    http = subject.connection.http
    await subject.sleep(1)
    assert (await lifecycle.resume(http, deadline_s=CALL_DEADLINE_S)).ok
    assert await subject.is_sleeping() is True
    await subject.wake_up()


async def test_a_request_to_a_sleeping_engine_is_answered_after_waking(subject: Subject) -> None:
    """Who waits long enough gets the right answer."""
    before = await subject.generate()
    await subject.sleep(1)
    async with meanwhile(subject.generate) as answers:
        await let_arrive(subject)
        assert answers == []
        await subject.wake_up()
    assert_same(answers[0], before)


async def test_falling_asleep_aborts_what_runs(subject: Subject) -> None:
    """By default a running request ends at once, with status 200 and finish reason ``abort``."""
    async with meanwhile(subject.generate_long) as answers:
        await eventually(lambda: is_running(subject))
        await subject.sleep(1)
    await subject.wake_up()
    assert answers[0].finish_reason == "abort"
    assert len(answers[0].token_ids) < subject.long_answer


async def test_falling_asleep_waits_for_what_runs(subject: Subject) -> None:
    """With ``mode=wait`` a running request ends undisturbed before the engine sleeps."""
    async with meanwhile(subject.generate_long) as answers:
        await eventually(lambda: is_running(subject))
        await subject.sleep(1, mode="wait")
    await subject.wake_up()
    assert answers[0].finish_reason == "length"
    assert_same(answers[0], await subject.generate_long())


async def test_a_kept_request_goes_on_after_waking(subject: Subject) -> None:
    """With ``mode=keep`` a running request survives the sleep and ends with the undisturbed answer."""
    undisturbed = await subject.generate_long()
    async with meanwhile(partial(subject.generate_long, cache_salt="kept")) as answers:
        await eventually(lambda: is_running(subject))
        await subject.sleep(1, mode="keep")
        assert answers == []
        await subject.wake_up()
    assert_same_tokens(answers[0], undisturbed)


async def test_who_leaves_is_forgotten(subject: Subject) -> None:
    """When a client leaves, its running request ends."""
    before = (await subject.metrics()).generation_tokens
    async with anyio.create_task_group() as group:
        group.start_soon(subject.generate_long)
        await eventually(lambda: is_running(subject))
        group.cancel_scope.cancel()
    await eventually(lambda: is_idle(subject))
    after = (await subject.metrics()).generation_tokens
    assert before is not None
    assert after is not None
    assert after - before < subject.long_answer


async def is_running(subject: Subject) -> bool:
    """Whether it computes an answer."""
    return bool((await subject.metrics()).requests_running)


async def is_idle(subject: Subject) -> bool:
    """Whether it has no requests."""
    metrics = await subject.metrics()
    return metrics.requests_waiting == metrics.requests_running == 0


async def let_arrive(subject: Subject) -> None:
    """Make round trips to the engine, by which time what was sent before has reached it."""
    for _ in range(3):
        await subject.is_sleeping()


@asynccontextmanager
async def meanwhile(ask: Callable[[], Awaitable[Generation]]) -> AsyncIterator[list[Generation]]:
    """Ask while the body runs; the answer is there at the latest when the block is left."""
    answers: list[Generation] = []

    async def collect() -> None:
        answers.append(await ask())

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        yield answers
