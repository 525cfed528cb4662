"""The routes every server has: generation, tokenizer, adapters, metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from http import HTTPStatus

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fake_vllm import answers, metrics, vocabulary
from tests.fake_vllm.behaviours import Behaviour
from tests.fake_vllm.checks import check_fields, check_limits
from tests.fake_vllm.engine import Engine, EngineError
from tests.fake_vllm.options import Options
from tests.fake_vllm.refusals import bad_request, not_found
from tests.fake_vllm.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    LoadAdapterRequest,
    TokenizeRequest,
    UnloadAdapterRequest,
)
from tests.fake_vllm.sequence import Sampling, Sequence

_CLIENT_LEFT = 499


class OpenAiRoutes:
    """Handlers over one engine."""

    def __init__(self, engine: Engine, options: Options) -> None:
        self._engine = engine
        self._options = options
        self._misbehaviour = options.misbehaviour
        self._completions = 0

    def routes(self) -> list[Route]:
        """All of them; those for adapters only where changing them at run time is allowed."""
        adapters = [
            Route("/v1/load_lora_adapter", self._load_adapter, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self._unload_adapter, methods=["POST"]),
        ]
        return [
            Route("/health", self._health),
            Route("/version", self._version),
            Route("/metrics", self._metrics),
            Route("/v1/models", self._models),
            Route("/v1/completions", self._complete, methods=["POST"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/detokenize", self._detokenize, methods=["POST"]),
            *(adapters if self._options.runtime_lora else []),
        ]

    async def _health(self, _: Request) -> Response:
        unready = Behaviour.NEVER_READY in self._misbehaviour
        return Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE if unready else HTTPStatus.OK)

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": answers.VERSION})

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(metrics.exposition(self._engine, model=self._options.served_model_name))

    async def _models(self, _: Request) -> Response:
        names = [self._options.served_model_name, *self._engine.adapters]
        limit = self._options.max_model_len
        cards = [
            {
                "id": name,
                "object": "model",
                "owned_by": "vllm",
                "max_model_len": limit,
                "parent": names[0] if number else None,
            }
            for number, name in enumerate(names)
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def _complete(self, request: Request) -> Response:
        body = CompletionRequest.model_validate_json(await request.body())
        sequence = self._received(body)
        if body.stream:
            return StreamingResponse(self._parts(sequence, body), media_type="text/event-stream")
        return await _unless_the_client_leaves(request, self._answer(sequence, body, answers.completion))

    async def _chat(self, request: Request) -> Response:
        body = ChatRequest.model_validate_json(await request.body())
        if isinstance(body.tool_choice, dict):
            raise bad_request("tool_choice requires --tool-call-parser to be set")
        prompt = vocabulary.apply_chat_template(body.messages, add_generation_prompt=True)
        completion = body.as_completion(vocabulary.encode(prompt))
        sequence = self._received(completion)
        return await _unless_the_client_leaves(request, self._answer(sequence, completion, answers.chat))

    def _received(self, body: CompletionRequest) -> Sequence:
        sequence = self._sequence(body)
        self._completions += 1
        if self._completions == self._misbehaviour.number(Behaviour.DIE_IN_PROBE):
            self._options.exit_process(1)
        if self._happens(Behaviour.ERROR_AFTER_WAKE):
            raise EngineError("EngineCore encountered an issue.")
        return sequence

    async def _parts(self, sequence: Sequence, body: CompletionRequest) -> AsyncIterator[str]:
        if self._hangs():
            await asyncio.Event().wait()
        model, id_, known = body.model or self._options.served_model_name, answers.new_id(), 0
        async for now in self._engine.stream(sequence):
            # As in vLLM, nothing is said of an end that comes before the first token.
            if now:
                yield _event(answers.stream_part(sequence, body, known=known, model=model, id_=id_))
            known = now
        if body.stream_options and body.stream_options.include_usage:
            yield _event(
                answers.stream_usage(
                    sequence,
                    model=model,
                    id_=id_,
                    fingerprint=self._fingerprint(),
                    details=self._options.enable_prompt_tokens_details,
                )
            )
        yield "data: [DONE]\n\n"

    async def _answer(
        self, sequence: Sequence, body: CompletionRequest, shape: Callable[..., JsonValue]
    ) -> Response:
        lost = body.max_tokens == 1 and self._happens(Behaviour.LOSE_SHORT_AFTER_WAKE)
        if lost or self._hangs():
            await asyncio.Event().wait()
        others = [self._sequence(body, number) for number in range(1, body.n)]
        async with asyncio.TaskGroup() as group:
            for each in (sequence, *others):
                group.create_task(self._engine.generate(each))
        if self._happens(Behaviour.EMPTY_AFTER_WAKE):
            return Response(status_code=HTTPStatus.OK)
        answer = shape(
            (sequence, *others),
            body,
            model=body.model or self._options.served_model_name,
            fingerprint=self._fingerprint(),
            details=self._options.enable_prompt_tokens_details,
            miscount=int(self._happens(Behaviour.WRONG_USAGE_AFTER_WAKE)),
        )
        return JSONResponse(answer)

    def _hangs(self) -> bool:
        after_release = Behaviour.HANG_AFTER_RELEASE in self._misbehaviour and self._engine.releases > 0
        forever = Behaviour.HANG in self._misbehaviour
        return forever or after_release or self._happens(Behaviour.HANG_AFTER_WAKE)

    def _happens(self, behaviour: Behaviour) -> bool:
        """Whether a misbehaviour that begins with the first wake-up is due."""
        return behaviour in self._misbehaviour and self._engine.wake_ups > 0

    def _fingerprint(self) -> str:
        drifted = self._happens(Behaviour.FINGERPRINT_AFTER_WAKE)
        return f"vllm-{answers.VERSION}-{'drifted' if drifted else 'fake'}"

    def _sequence(self, body: CompletionRequest, number: int = 0) -> Sequence:
        check_fields(body)
        self._check_model(body.model)
        tokens = vocabulary.encode(body.prompt) if isinstance(body.prompt, str) else body.prompt
        max_tokens = check_limits(body, tokens, self._options)
        return Sequence(
            tokens=list(tokens),
            sampling=_sampling(body, max_tokens=max_tokens, number=number),
            salt=body.cache_salt,
            adapter=self._engine.adapters.get(body.model or ""),
            wants_prompt_logprobs=body.prompt_logprobs is not None,
        )

    def _check_model(self, name: str | None) -> None:
        if name and name != self._options.served_model_name and name not in self._engine.adapters:
            served = self._options.served_model_name
            raise not_found(f"The model `{name}` does not exist. Valid aliases: {served}.", param="model")

    async def _tokenize(self, request: Request) -> Response:
        body = TokenizeRequest.model_validate_json(await request.body())
        self._check_model(body.model)
        tokens = vocabulary.encode(_text(body))
        answer = {"count": len(tokens), "max_model_len": self._options.max_model_len, "tokens": tokens}
        return JSONResponse({**answer, "token_strs": None})

    async def _detokenize(self, request: Request) -> Response:
        body = DetokenizeRequest.model_validate_json(await request.body())
        self._check_model(body.model)
        return JSONResponse({"prompt": vocabulary.decode(body.tokens)})

    async def _load_adapter(self, request: Request) -> Response:
        body = LoadAdapterRequest.model_validate_json(await request.body())
        if body.lora_name in self._engine.adapters and not body.load_inplace:
            raise bad_request(f"The lora adapter '{body.lora_name}' has already been loaded.")
        try:
            self._engine.load_adapter(body.lora_name, body.lora_path)
        except FileNotFoundError as missing:
            raise not_found(
                f"Loading lora {body.lora_name} failed: No adapter found for {body.lora_path}"
            ) from missing
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def _unload_adapter(self, request: Request) -> Response:
        body = UnloadAdapterRequest.model_validate_json(await request.body())
        if self._engine.adapters.pop(body.lora_name, None) is None:
            raise not_found(f"The lora adapter '{body.lora_name}' cannot be found.")
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _sampling(body: CompletionRequest, *, max_tokens: int, number: int) -> Sampling:
    """What is asked of the sampler; the answers of one request have seeds of their own."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=body.temperature,
        seed=None if body.seed is None else body.seed + number,
        ignore_eos=body.ignore_eos,
        top_k=body.top_k,
        top_p=body.top_p,
        min_p=body.min_p,
        min_tokens=body.min_tokens,
        stop=tuple(body.stop),
        stop_token_ids=tuple(body.stop_token_ids),
        repetition_penalty=body.repetition_penalty,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        bias={int(token): bias for token, bias in body.logit_bias.items()},
        allowed=None if body.allowed_token_ids is None else tuple(body.allowed_token_ids),
        # As in vLLM, a word is forbidden at the beginning and after a space.
        bad_words=tuple(
            tuple(vocabulary.encode(spelt))
            for word in body.bad_words
            for spelt in (word, f" {word.lstrip()}")
        ),
        structure=body.structured_outputs.pattern if body.structured_outputs else None,
    )


def _event(part: JsonValue) -> str:
    return f"data: {json.dumps(part)}\n\n"


def _text(body: TokenizeRequest) -> str:
    if body.messages is not None:
        return vocabulary.apply_chat_template(body.messages, add_generation_prompt=body.add_generation_prompt)
    if body.prompt is None:
        raise bad_request("Either prompt or messages must be given.")
    return body.prompt


async def _unless_the_client_leaves(request: Request, work: Coroutine[None, None, Response]) -> Response:
    """Do the work, and give it up when nobody waits for it any more (vLLM's ``with_cancellation``)."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=_CLIENT_LEFT)
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
