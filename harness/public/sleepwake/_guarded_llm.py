"""An engine of vLLM in this process, asked and told of as plain data; nothing of vLLM is imported here."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from sleepwake._vllm_objects import LLM, AsyncLLM, Logprob, RequestOutput, Tokenizer

_TOLD = {
    "model_config": ("model", "dtype", "quantization", "max_model_len", "seed"),
    "cache_config": ("block_size", "num_gpu_blocks", "enable_prefix_caching", "cache_dtype"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
}
"""What is told of the configuration: what a judgement depends on."""

CHECKSUMS = "compute_weight_checksums"
"""What tells the checksums of all weights: a method of an ``AsyncLLM``, and of every worker."""


class GuardedLLM:
    """What the guard says to an ``LLM``, and what comes back; ``lora_request`` names the adapter it asks."""

    def __init__(self, llm: object, lora_request: object = None) -> None:
        self._llm = cast("LLM", llm)
        self._adapter = {} if lora_request is None else {"lora_request": lora_request}

    @property
    def is_asleep(self) -> bool:
        """Whether the engine rests: it would let every request wait for ever."""
        asked = getattr(getattr(self._llm, "llm_engine", None), "is_sleeping", None)
        return bool(asked()) if asked is not None else False

    def facts(self) -> dict[str, Any]:
        """What the engine is."""
        configuration = getattr(getattr(self._llm, "llm_engine", None), "vllm_config", None)
        by_workers = _has_checksums() and hasattr(getattr(self._llm, "llm_engine", None), "collective_rpc")
        tells = by_workers or hasattr(self._llm, CHECKSUMS)
        return facts_of(self._llm, configuration, serves_others=False, tells_checksums=tells)

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what the guard's own process asks.

        Raises:
            BaseException: whatever the engine raises.
        """
        if question["ask"] == "tokens":
            return tokens_of(question, self._llm.get_tokenizer())
        if question["ask"] == "checksums":
            try:
                return checksums_of(self._checksums())
            except Exception as error:  # noqa: BLE001 - vLLM raises just that where a worker cannot tell
                return untold(error)
        # The class is that of this release, wherever it has it.
        sampling = type(self._llm.get_default_sampling_params())(**question["sampling"])
        began = time.monotonic()
        outputs = self._llm.generate(prompts_of(question), sampling, use_tqdm=False, **self._adapter)
        return answers_of(outputs, seconds=time.monotonic() - began)

    def _checksums(self) -> Iterable[Mapping[str, str]]:
        """Of a reference that is no engine by its own method; else by the workers', past what is noticed."""
        llm: Any = self._llm
        own = getattr(llm, CHECKSUMS, None)
        told: Iterable[Mapping[str, str]] = own() if own else llm.llm_engine.collective_rpc(CHECKSUMS)
        return told


class GuardedAsyncLLM:
    """What the guard says to an ``AsyncLLM``, and what comes back; as :class:`GuardedLLM`."""

    def __init__(self, llm: object, lora_request: object = None) -> None:
        self._llm = cast("AsyncLLM", llm)
        self._adapter = {} if lora_request is None else {"lora_request": lora_request}

    async def is_asleep(self) -> bool:
        """Whether the engine rests: it would let every request wait for ever."""
        return bool(await self._llm.is_sleeping())

    def facts(self) -> dict[str, Any]:
        """What the engine is."""
        configuration = getattr(self._llm, "vllm_config", None)
        tells = hasattr(self._llm, CHECKSUMS)
        return facts_of(self._llm, configuration, serves_others=True, tells_checksums=tells)

    async def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what the guard's own process asks.

        Raises:
            BaseException: whatever the engine raises.
        """
        if question["ask"] == "tokens":
            return tokens_of(question, self._llm.get_tokenizer())
        if question["ask"] == "checksums":
            engine: Any = self._llm
            try:
                return checksums_of(await engine.compute_weight_checksums())
            except Exception as error:  # noqa: BLE001 - vLLM raises just that where a worker cannot tell
                return untold(error)
        sampling = sys.modules["vllm"].SamplingParams(**question["sampling"])
        began = time.monotonic()
        requests = [asyncio.ensure_future(self._last(each, sampling)) for each in prompts_of(question)]
        try:
            outputs = await asyncio.gather(*requests)
        finally:
            for request in requests:
                request.cancel()  # of those that still run, where one has failed
        return answers_of(outputs, seconds=time.monotonic() - began)

    async def _last(self, prompt: Mapping[str, Any], sampling: object) -> RequestOutput:
        """The whole answer, which every output adds to."""
        last: RequestOutput | None = None
        number = f"sleepwake-{uuid.uuid4().hex}"
        async for output in self._llm.generate(prompt, sampling, number, **self._adapter):
            last = output
        if last is None:
            raise RuntimeError("the engine ended a request without any output")
        return last


class GuardedInThread:
    """What answers in its caller's thread, such as a trainer's model, for a guard in an event loop."""

    def __init__(self, llm: object, lora_request: object = None) -> None:
        self._guarded = GuardedLLM(llm, lora_request)

    async def is_asleep(self) -> bool:
        """Whether it rests."""
        return self._guarded.is_asleep

    def facts(self) -> dict[str, Any]:
        """What it is."""
        return self._guarded.facts()

    async def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer in another thread: the loop goes on meanwhile.

        Raises:
            BaseException: whatever it raises.
        """
        return await asyncio.to_thread(self._guarded.answer, question)


def facts_of(
    llm: LLM | AsyncLLM, configuration: object, *, serves_others: bool, tells_checksums: bool
) -> dict[str, Any]:
    """What an engine is, as its own objects say."""
    vocabulary_size = getattr(getattr(configuration, "model_config", None), "get_vocab_size", None)
    return {
        "engine": type(llm).__name__,
        "vllm_version": getattr(sys.modules.get("vllm"), "__version__", None),
        "configuration": _told(configuration),
        "end_of_sequence_id": getattr(llm.get_tokenizer(), "eos_token_id", None),
        "vocabulary_size": vocabulary_size() if vocabulary_size is not None else None,
        "takes_salt": _takes_salt(),
        "keeps_kv_elsewhere": getattr(configuration, "kv_transfer_config", None) is not None,
        "serves_others": serves_others,
        "tells_checksums": tells_checksums,
    }


def tokens_of(question: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """Texts of a user as token ids, through the model's chat template where it has one."""
    return {"tokens": [_tokens(text, tokenizer) for text in question["texts"]]}


def _tokens(text: str, tokenizer: Tokenizer) -> list[int]:
    if not getattr(tokenizer, "chat_template", None):
        return list(tokenizer.encode(text))
    messages = [{"role": "user", "content": text}]
    chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(chat, add_special_tokens=False))


def checksums_of(workers: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The checksum of every parameter; each worker tells of its own, under names that begin with its rank."""
    return {"checksums": {name: digest for told in workers for name, digest in told.items()}}


def untold(error: Exception) -> dict[str, Any]:
    """Checksums only help to name a cause: that they are not told stops nobody, and is no secret."""
    warnings.warn(f"no checksums of the weights: {error}", RuntimeWarning, stacklevel=2)
    return {"checksums": None}


def prompts_of(question: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The prompts of a question as vLLM takes them."""
    salt = question["salt"]
    salted = {} if salt is None else {"cache_salt": salt}
    return [{"prompt_token_ids": token_ids, **salted} for token_ids in question["prompts"]]


def answers_of(outputs: Iterable[RequestOutput], *, seconds: float) -> dict[str, Any]:
    """What came back, as plain data."""
    return {"seconds": seconds, "answers": [_plain(output) for output in outputs]}


def _told(configuration: object) -> dict[str, dict[str, Any]]:
    told: dict[str, dict[str, Any]] = {}
    for part, names in _TOLD.items():
        values = {name: getattr(getattr(configuration, part, None), name, None) for name in names}
        told[part] = {
            name: value if isinstance(value, int | float | str) else str(value)
            for name, value in values.items()
            if value is not None
        }
    return told


def _takes_salt() -> bool:
    """Whether prompts of this release have a cache salt; it would pass over one that it does not know."""
    prompt = getattr(sys.modules.get("vllm.inputs"), "TokensPrompt", None)
    keys = getattr(prompt, "__optional_keys__", None)
    return keys is None or "cache_salt" in keys


def _has_checksums() -> bool:
    """Whether the workers of this release tell checksums."""
    core = getattr(sys.modules.get("vllm.v1.engine.core"), "EngineCore", None)
    return core is None or hasattr(core, CHECKSUMS)


def _plain(output: RequestOutput) -> dict[str, Any]:
    """One of vLLM's ``RequestOutput``."""
    (answer,) = output.outputs
    cached = getattr(output, "num_cached_tokens", None)
    prompt = getattr(output, "prompt_token_ids", None)
    positions = list(zip(answer.token_ids, answer.logprobs or (), strict=False))
    return {
        "token_ids": list(answer.token_ids),
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "prompt_tokens": None if prompt is None else len(prompt),
        "cached_tokens": None if cached is None or cached < 0 else cached,
        "chosen": [at[token].logprob for token, at in positions],
        "top": [_likeliest(at) for _, at in positions],
    }


def _likeliest(position: Mapping[int, Logprob]) -> list[tuple[int, float]]:
    """The candidates of one token, likeliest first."""
    candidates = [(token, candidate.logprob) for token, candidate in position.items()]
    return sorted(candidates, key=lambda candidate: -candidate[1])
