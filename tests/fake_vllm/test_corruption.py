"""Corruption in the fake: by mechanism, in the shape of the real thing, and healed by what heals it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import numpy as np
import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from tests.fake_vllm.behaviours import Behaviour, Fault, Misbehaviour
from tests.fake_vllm.options import DEFAULT_MODEL, Options
from tests.fake_vllm.serving import serve

pytestmark = pytest.mark.anyio

_TEXT = "{subject}: in the old country between the mountain and the sea there is much more to say of it."
_SUBJECTS = ("The river", "A good market", "My first letter", "Every language")
_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Engine:
    """A running fake and its prompts."""

    connection: Connection
    prompts: tuple[tuple[int, ...], ...]

    async def answers(self, salt: str = "warm") -> list[Generation]:
        """All prompts at once under this salt."""
        answers: dict[int, Generation] = {}

        async def ask(number: int, prompt: tuple[int, ...]) -> None:
            request = GenerationRequest(
                prompt_token_ids=prompt,
                max_tokens=24,
                model=DEFAULT_MODEL,
                deadline_s=_DEADLINE_S,
                cache_salt=salt,
            )
            answers[number] = await generate(self.connection.openai, request)

        async with anyio.create_task_group() as group:
            for number, prompt in enumerate(self.prompts):
                group.start_soon(ask, number, prompt)
        assert all(answer.error is None for answer in answers.values())
        return [answers[number] for number in range(len(self.prompts))]

    async def cycle(self, level: lifecycle.SleepLevel) -> None:
        """Sleep and recover as documented."""
        http = self.connection.http
        await lifecycle.sleep(http, level=level, deadline_s=_DEADLINE_S)
        await lifecycle.wake_up(http, deadline_s=_DEADLINE_S)
        if level == 2:
            await lifecycle.reload_weights(http, deadline_s=_DEADLINE_S)


@asynccontextmanager
async def engine(
    *faults: Fault,
    prefix_caching: bool = True,
    discard: str = "zero",
    behaviours: dict[Behaviour, int] | None = None,
) -> AsyncIterator[Engine]:
    """A fake with these faults planted."""
    options = Options(
        block_size=8,
        enable_prefix_caching=prefix_caching,
        discard=discard,
        misbehaviour=Misbehaviour(behaviours or {}, frozenset(faults)),
    )
    async with serve(options) as url, connect(url) as connection:
        prompts = []
        for subject in _SUBJECTS:
            tokenized = await lifecycle.tokenize_text(
                connection.http, _TEXT.format(subject=subject), deadline_s=_DEADLINE_S
            )
            tokens = tokenized.field("tokens")
            assert isinstance(tokens, list)
            prompts.append(tuple(token for token in tokens if isinstance(token, int)))
        yield Engine(connection, tuple(prompts))


def differing(before: list[Generation], after: list[Generation]) -> int:
    """How many answers changed, in tokens or in any log-probability."""
    return sum(
        one.token_ids != other.token_ids or not np.array_equal(one.top_logprobs, other.top_logprobs)
        for one, other in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("discard", ["zero", "poison", "stale"])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.cell
async def test_a_healthy_engine_wakes_up_the_same(level: lifecycle.SleepLevel, discard: str) -> None:
    """Without a fault nothing changes to the last bit, warm or cold, whatever discarded memory holds."""
    async with engine(discard=discard) as healthy:
        before = await healthy.answers()
        assert differing(before, await healthy.answers()) == 0
        await healthy.cycle(level)
        assert differing(before, await healthy.answers()) == 0
        assert differing(before, await healthy.answers("fresh")) == 0


@pytest.mark.parametrize("level", [1, 2])
async def test_a_kept_prefix_cache_spoils_what_it_remembers(level: lifecycle.SleepLevel) -> None:
    """Every prompt of before is served from blank blocks; fresh salts and a reset heal it."""
    async with engine(Fault.KEEP_PREFIX_CACHE) as faulty:
        before = await faulty.answers()
        await faulty.cycle(level)
        after = await faulty.answers()
        assert all(answer.cached_tokens for answer in after)
        assert differing(before, after) == len(before)
        assert differing(before, await faulty.answers("fresh")) == 0
        await lifecycle.reset_prefix_cache(faulty.connection.http, deadline_s=_DEADLINE_S)
        assert differing(before, await faulty.answers()) == 0


async def test_without_prefix_caching_there_is_nothing_to_spoil() -> None:
    """The founding bug hides behind ``--no-enable-prefix-caching``."""
    async with engine(Fault.KEEP_PREFIX_CACHE, prefix_caching=False) as faulty:
        before = await faulty.answers()
        await faulty.cycle(1)
        assert differing(before, await faulty.answers()) == 0


async def test_kept_contents_hide_a_kept_prefix_cache() -> None:
    """When discarded memory happens to keep its contents, only the cached tokens give the fault away."""
    async with engine(Fault.KEEP_PREFIX_CACHE, discard="stale") as faulty:
        before = await faulty.answers()
        await faulty.cycle(1)
        after = await faulty.answers()
        assert differing(before, after) == 0
        assert all(answer.cached_tokens for answer in after)


@pytest.mark.parametrize("level", [1, 2])
async def test_lost_weights_spoil_everything(level: lifecycle.SleepLevel) -> None:
    """Warm or cold, every answer is empty; a later reload and a reset of the cache heal it."""
    async with engine(Fault.LOSE_WEIGHTS) as faulty:
        before = await faulty.answers()
        await faulty.cycle(level)
        for salt in ("warm", "fresh"):
            assert {answer.text for answer in await faulty.answers(salt)} == {""}
        await lifecycle.reload_weights(faulty.connection.http, deadline_s=_DEADLINE_S)
        await lifecycle.reset_prefix_cache(faulty.connection.http, deadline_s=_DEADLINE_S)
        assert differing(before, await faulty.answers()) == 0


async def test_garbage_begins_where_it_is_told_to() -> None:
    """Answers are right up to the given token, then wrong, and only after a wake-up."""
    async with engine(behaviours={Behaviour.GARBAGE_AFTER_WAKE: 5}) as faulty:
        before = await faulty.answers()
        assert differing(before, await faulty.answers()) == 0
        await faulty.cycle(1)
        after = await faulty.answers()
    assert [answer.token_ids[:5] for answer in after] == [answer.token_ids[:5] for answer in before]
    assert differing(before, after) == len(before)


async def test_noise_is_small_and_always_there() -> None:
    """With noise no two answers have the same log-probabilities, and the first ones are close."""
    async with engine(behaviours={Behaviour.NOISE: 20}) as noisy:
        one, other = await noisy.answers("one"), await noisy.answers("other")
    assert differing(one, other) == len(one)
    for left, right in zip(one, other, strict=True):
        assert abs(left.chosen_logprobs[0] - right.chosen_logprobs[0]) < 0.5


async def test_an_adapter_changes_answers_and_only_its_own(tmp_path: Path) -> None:
    """A loaded adapter answers under its name otherwise than the base model, which is unchanged."""
    (tmp_path / "adapter_model.safetensors").write_bytes(b"tuned")

    async def load(healthy: Engine) -> CallResult:
        http = healthy.connection.http
        return await lifecycle.load_lora_adapter(
            http, name="tuned", path=str(tmp_path), deadline_s=_DEADLINE_S
        )

    async with engine() as healthy:
        http = healthy.connection.http
        before = await healthy.answers()
        loaded, again = await load(healthy), await load(healthy)
        request = GenerationRequest(
            prompt_token_ids=healthy.prompts[0], max_tokens=24, model="tuned", deadline_s=_DEADLINE_S
        )
        tuned = await generate(healthy.connection.openai, request)
        assert (loaded.ok, again.status) == (True, 400)
        assert tuned.token_ids != before[0].token_ids
        assert differing(before, await healthy.answers()) == 0
        assert (await lifecycle.unload_lora_adapter(http, name="tuned", deadline_s=_DEADLINE_S)).ok
        missing = await lifecycle.unload_lora_adapter(http, name="tuned", deadline_s=_DEADLINE_S)
        assert (missing.status, missing.unavailable) == (404, False)
