"""An engine behind an OpenAI endpoint: answers what is asked of it over HTTP, in its holder's words."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import anyio
from pydantic import JsonValue, TypeAdapter

from harness.drive.introduction import served_model
from harness.errors import EngineFailedError, RuntimeUnavailableError
from harness.guarding.asking import Holder
from harness.guarding.messages import Answered, Facts
from harness.reaching import Access, headers_of
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.chat import user_message
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from harness.vllm_api.versions import Feature, has

ENDPOINT = "endpoint"
"""What the engine is called: of which class it is, nobody tells."""

KEYS = ("SLEEPWAKE_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY")
"""Where the key is looked for, the first one first."""

ANSWER_DEADLINE_S = 300.0
WORD_DEADLINE_S = 60.0
"""Of what the front end says by itself; the first ``/server_info`` takes seconds."""

_TOKENS: TypeAdapter[tuple[int, ...]] = TypeAdapter(tuple[int, ...])
_TEXTS: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])
_PROMPTS: TypeAdapter[tuple[tuple[int, ...], ...]] = TypeAdapter(tuple[tuple[int, ...], ...])
_CHECKSUMS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])

_Told = TypeVar("_Told")


class Endpoint:
    """One server.  Every question has a deadline, and none is asked twice."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/").removesuffix("/v1")
        key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
        self._access = Access(headers=headers_of((), api_key=key))
        # A loop of its own: that of this process waits for orders meanwhile.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._model = self._ask(served_model)

    def facts(self) -> Facts:
        """What it is, as far as its front end tells.

        Raises:
            RuntimeUnavailableError: its release cannot be guarded.
        """
        info, version = self._ask(_introduced)
        release = version.field("version")
        if not isinstance(release, str) or has(Feature.CACHE_SALT, release) is False:
            raise RuntimeUnavailableError(
                f"{self._base_url} is no vLLM of 0.10.0 or newer, which have cache salts",
                remedy="`sleepwake run --endpoint` tests older ones",
            )
        configuration = info.field("vllm_config")
        parts = configuration if isinstance(configuration, dict) else {}
        return Facts(
            engine=ENDPOINT,
            vllm_version=release,
            configuration={name: part for name, part in parts.items() if isinstance(part, dict)},
            end_of_sequence_id=None,
            vocabulary_size=None,
            takes_salt=True,
            keeps_kv_elsewhere=bool(parts.get("kv_transfer_config")),
            serves_others=True,
            tells_checksums=True,
        )

    def is_asleep(self) -> bool:
        """Whether it says so; one that does not tell is taken to be awake, and has its deadline."""

        async def ask(connection: Connection) -> CallResult:
            return await lifecycle.is_sleeping(connection.http, deadline_s=WORD_DEADLINE_S)

        return self._ask(ask).field("is_sleeping") is True

    def ask(self, question: Mapping[str, object]) -> Mapping[str, JsonValue]:
        """Put a question, and return the answer.

        Raises:
            EngineFailedError: the server does not answer.
        """
        if question["ask"] == "tokens":
            texts = _TEXTS.validate_python(question["texts"])
            return {"tokens": [self._tokens(text) for text in texts]}
        if question["ask"] == "checksums":
            return {"checksums": self._checksums()}
        return self._answers(question)

    def _tokens(self, text: str) -> list[JsonValue]:
        async def by_chat(connection: Connection) -> CallResult:
            http, model = connection.http, self._model
            chat = [user_message(text)]
            told = await lifecycle.tokenize_chat(http, chat, model=model, deadline_s=WORD_DEADLINE_S)
            if told.ok:
                return told
            return await lifecycle.tokenize_text(http, text, model=model, deadline_s=WORD_DEADLINE_S)

        told = self._ask(by_chat)
        if not told.ok:
            raise EngineFailedError(f"{self._base_url} could not make tokens of a prompt")
        return list(_TOKENS.validate_python(told.field("tokens")))

    def _checksums(self) -> dict[str, JsonValue] | None:
        async def ask(connection: Connection) -> CallResult:
            return await lifecycle.weight_checksums(connection.http, deadline_s=ANSWER_DEADLINE_S)

        told = self._ask(ask)
        return {**_CHECKSUMS.validate_python(told.field("checksums"))} if told.ok else None

    def _answers(self, question: Mapping[str, object]) -> dict[str, JsonValue]:
        sampling = question["sampling"]
        if not isinstance(sampling, dict):
            raise AssertionError("the sampling is a mapping")  # noqa: TRY004 - a defect of ours, no user's
        requests = [
            GenerationRequest(
                prompt_token_ids=prompt,
                max_tokens=sampling["max_tokens"],
                model=self._model,
                deadline_s=ANSWER_DEADLINE_S,
                temperature=sampling["temperature"],
                seed=sampling["seed"],
                cache_salt=str(question["salt"]),
                top_logprobs=sampling["logprobs"],
            )
            for prompt in _PROMPTS.validate_python(question["prompts"])
        ]

        async def ask_all(connection: Connection) -> list[Generation]:
            answers: dict[int, Generation] = {}

            async def ask(number: int, request: GenerationRequest) -> None:
                answers[number] = await generate(connection.openai, request)

            async with anyio.create_task_group() as together:
                for number, request in enumerate(requests):
                    together.start_soon(ask, number, request)
            return [answers[number] for number in range(len(requests))]

        generated = self._ask(ask_all)
        failed = next((each.error for each in generated if each.error), None)
        if failed is not None:
            raise EngineFailedError(f"{self._base_url} did not answer: {failed.message}")
        plain: list[JsonValue] = [_plain(each).model_dump(mode="json") for each in generated]
        return {"seconds": max(each.seconds for each in generated), "answers": plain}

    def _ask(self, ask: Callable[[Connection], Awaitable[_Told]]) -> _Told:
        async def connected() -> _Told:
            async with connect(self._base_url, access=self._access) as connection:
                return await ask(connection)

        return self._thread.submit(anyio.run, connected).result()


class Together:
    """Two holders as one: the guarded engine is behind an endpoint, a reference in its user's process."""

    def __init__(self, endpoint: Endpoint, other: Holder) -> None:
        self._endpoint, self._other = endpoint, other

    def ask(self, question: Mapping[str, object]) -> Mapping[str, JsonValue]:
        """Put a question to whom it is for, and return the answer."""
        return (self._endpoint if question["of"] == "guarded" else self._other).ask(question)


async def _introduced(connection: Connection) -> tuple[CallResult, CallResult]:
    info = await lifecycle.server_info(connection.http, deadline_s=WORD_DEADLINE_S)
    return info, await lifecycle.version(connection.http, deadline_s=WORD_DEADLINE_S)


def _plain(generation: Generation) -> Answered:
    rows = zip(generation.top_ids.tolist(), generation.top_logprobs.tolist(), strict=True)
    return Answered(
        token_ids=generation.token_ids,
        text=generation.text,
        finish_reason=generation.finish_reason,
        stop_reason=generation.stop_reason,
        prompt_tokens=generation.prompt_tokens,
        cached_tokens=generation.cached_tokens,
        chosen=tuple(generation.chosen_logprobs.tolist()),
        top=tuple(
            tuple((token, value) for token, value in zip(ids, values, strict=True) if token >= 0)
            for ids, values in rows
        ),
    )
