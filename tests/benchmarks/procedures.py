"""How others check a sleep and a wake-up: the script everybody writes, and vLLM's own test.

Both are written as their users write them, with nothing of sleepwake's: one request at a time, answers
compared as text.  They run against a server that is up already.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import httpx
from pydantic import JsonValue

from harness.drive.script import unrolled
from harness.scenario.script import Step
from harness.scenario.steps.asking import Probe
from harness.scenario.steps.lifecycle import Sleep, WakeUp
from harness.scenario.steps.loading import ReloadWeights

DEADLINE_S = 300.0
VLLM_PROMPT, VLLM_TOKENS, VLLM_CYCLES = "How are you?", 10, 2
"""Of ``tests/basic_correctness/test_mem.py`` (``test_end_to_end``, ``test_deep_sleep``)."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a procedure asked, what came of it and how long it took."""

    asked: int
    changed: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class _Client:
    http: httpx.AsyncClient
    model: str

    async def tokens_of(self, *, text: str = "", chat: str = "") -> list[int]:
        """The token ids of a text, or of a chat that consists of one message."""
        message: dict[str, JsonValue] = {"role": "user", "content": chat}
        asked: dict[str, JsonValue] = {"messages": [message]} if chat else {"prompt": text}
        answer = await self._post("/tokenize", json={"model": self.model, **asked})
        ids = answer["tokens"]
        assert isinstance(ids, list)
        return [each for each in ids if isinstance(each, int)]

    async def complete(self, prompt: Sequence[int], *, max_tokens: int) -> tuple[str, int]:
        """The greedy answer to one prompt, and how many tokens it took."""
        request: JsonValue = {
            "model": self.model,
            "prompt": [*prompt],
            "temperature": 0,
            "max_tokens": max_tokens,
        }
        match await self._post("/v1/completions", json=request):
            case {"choices": [{"text": str(text)}], "usage": {"completion_tokens": int(count)}}:
                return text, count
            case other:
                raise ValueError(f"not a completion: {other}")

    async def call(self, step: Step) -> None:
        """Carry out a transition."""
        match step:
            case Sleep():
                await self._post("/sleep", params={"level": step.sleep.level})
            case WakeUp():
                await self._post("/wake_up", params=[("tags", tag) for tag in step.wake_up.tags])
            case ReloadWeights():
                await self._post("/collective_rpc", json={"method": "reload_weights"})
            case _:
                pass

    async def _post(
        self, path: str, *, json: JsonValue = None, params: object = None
    ) -> dict[str, JsonValue]:
        response = await self.http.post(path, json=json, params=params)  # type: ignore[arg-type]  # as httpx takes it
        response.raise_for_status()
        body = response.json() if response.content else {}
        return body if isinstance(body, dict) else {}


async def naive(
    base_url: str, *, model: str, script: Sequence[Step], prompts: Sequence[str], max_tokens: int
) -> Outcome:
    """Walk through ``script``; at each probe ask one prompt after the other and compare with the first time.

    Null transitions are left out: nobody who compares exactly measures noise.
    """
    before: list[str] = []
    asked = changed = tokens = 0
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as http:
        client = _Client(http, model)
        asking = [await client.tokens_of(chat=prompt) for prompt in prompts]
        for placed in unrolled(tuple(script)):
            if not isinstance(placed.step, Probe):
                await client.call(placed.step)
                continue
            answers = [await client.complete(prompt, max_tokens=max_tokens) for prompt in asking]
            texts = [text for text, _ in answers]
            asked += len(texts)
            tokens += sum(count for _, count in answers)
            changed += sum(text != other for text, other in zip(texts, before, strict=False))
            before = before or texts
    return Outcome(asked=asked, changed=changed, tokens=tokens, seconds=time.monotonic() - began)


async def vllms_own_test(base_url: str, *, model: str, level: int) -> Outcome:
    """Sleep and wake twice; one short prompt has to be answered as before, to the letter.

    Level 2 is recovered as documented: the weights are woken and loaded again before the KV cache.
    """
    began = time.monotonic()
    changed = tokens = 0
    async with httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as http:
        client = _Client(http, model)
        prompt = await client.tokens_of(text=VLLM_PROMPT)
        before, count = await client.complete(prompt, max_tokens=VLLM_TOKENS)
        tokens += count
        for _ in range(VLLM_CYCLES):
            for step in _recovery(level):
                await client.call(step)
            after, count = await client.complete(prompt, max_tokens=VLLM_TOKENS)
            tokens += count
            changed += after != before
    return Outcome(asked=1 + VLLM_CYCLES, changed=changed, tokens=tokens, seconds=time.monotonic() - began)


def _recovery(level: int) -> list[Step]:
    steps: list[dict[str, JsonValue]] = [{"sleep": {"level": level}}]
    if level == 1:
        return [Sleep.model_validate(steps[0]), WakeUp.model_validate({"wake_up": {}})]
    return [
        Sleep.model_validate(steps[0]),
        WakeUp.model_validate({"wake_up": {"tags": ["weights"]}}),
        ReloadWeights.model_validate({"reload_weights": {}}),
        WakeUp.model_validate({"wake_up": {"tags": ["kv_cache"]}}),
    ]


async def peak_throughput(
    base_url: str, *, model: str, prompts: Sequence[str], max_tokens: int, at_once: Sequence[int]
) -> dict[int, float]:
    """Tokens a second with that many different prompts in flight, by their number.

    Prompts are told apart by a number at their start, so that nothing comes from the prefix cache.  The
    first batch warms the engine up and is not counted.
    """
    rates: dict[int, float] = {}
    async with httpx.AsyncClient(
        base_url=base_url, timeout=DEADLINE_S, limits=httpx.Limits(max_connections=None)
    ) as http:
        client = _Client(http, model)
        for round_number, number in enumerate((at_once[0], *at_once)):
            tokens: list[int] = []

            async def ask(prompt: Sequence[int], counts: list[int] = tokens) -> None:
                counts.append((await client.complete(prompt, max_tokens=max_tokens))[1])

            texts = (f"{round_number}.{i} {prompts[i % len(prompts)]}" for i in range(number))
            asking = [await client.tokens_of(chat=text) for text in texts]
            began = time.monotonic()
            async with anyio.create_task_group() as group:
                for prompt in asking:
                    group.start_soon(ask, prompt)
            if round_number:
                rates[number] = sum(tokens) / (time.monotonic() - began)
    return rates
