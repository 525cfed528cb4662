"""Which prompt tokens come from the prefix cache, and who says so."""

from __future__ import annotations

import pytest

from harness.vllm_api.generation import score
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio


def whole_blocks(subject: Subject, prompt: int = 0) -> int:
    """The tokens of a prompt that can be cached: whole blocks, and never its last token."""
    return (len(subject.prompts[prompt]) - 1) // subject.block_size * subject.block_size


async def test_the_second_time_whole_blocks_are_cached(subject: Subject) -> None:
    """A prompt is cold the first time and warm, in whole blocks, the second time."""
    assert (await subject.generate()).cached_tokens == 0
    assert (await subject.generate()).cached_tokens == whole_blocks(subject) > 0


async def test_a_fresh_salt_is_always_cold(subject: Subject) -> None:
    """What is cached under one salt, or without one, is not seen under another."""
    await subject.generate()
    assert (await subject.generate(cache_salt="first")).cached_tokens == 0
    assert (await subject.generate(cache_salt="second")).cached_tokens == 0
    assert (await subject.generate(cache_salt="first")).cached_tokens == whole_blocks(subject)


async def test_resetting_makes_every_prompt_cold(subject: Subject) -> None:
    """After ``/reset_prefix_cache`` nothing is cached."""
    await subject.generate()
    await subject.reset_prefix_cache()
    assert (await subject.generate()).cached_tokens == 0


async def test_scoring_writes_the_cache_but_does_not_read_it(subject: Subject) -> None:
    """``prompt_logprobs`` never sees a cached block, yet leaves its own behind."""
    for _ in range(2):
        scoring = await score(
            subject.connection.openai, subject.prompts[0], model=subject.model, deadline_s=CALL_DEADLINE_S
        )
        assert scoring.cached_tokens == 0
    assert (await subject.generate()).cached_tokens == whole_blocks(subject)


async def test_the_metrics_count_tokens(subject: Subject) -> None:
    """Queries count every prompt token that was looked up, hits those that were found."""
    before = await subject.metrics()
    await subject.generate(max_tokens=3)
    await subject.generate(max_tokens=3)
    after = await subject.metrics()
    assert before.prefix_cache_queries is not None
    assert before.prefix_cache_hits is not None
    assert before.generation_tokens is not None
    assert after.prefix_cache_queries == before.prefix_cache_queries + 2 * len(subject.prompts[0])
    assert after.prefix_cache_hits == before.prefix_cache_hits + whole_blocks(subject)
    assert after.generation_tokens == before.generation_tokens + 6


async def test_the_metrics_tell_how_the_cache_is_set_up(subject: Subject) -> None:
    """Before the first request already: with it a server shows what an arm's flags have brought about."""
    told = (await subject.metrics()).cache_config
    assert (told["enable_prefix_caching"], told["block_size"]) == ("True", str(subject.block_size))
