"""An engine of vLLM in this process, asked and told of as plain data; nothing of vLLM is imported here."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

_TOLD = {
    "model_config": ("model", "dtype", "quantization", "max_model_len", "seed"),
    "cache_config": ("block_size", "num_gpu_blocks", "enable_prefix_caching", "cache_dtype"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"),
}
"""What is told of the configuration: what a judgement depends on."""


class GuardedLLM:
    """What the guard says to an ``LLM``, and what comes back."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm

    @property
    def is_asleep(self) -> bool:
        """Whether the engine rests: it would let every request wait for ever."""
        asked = getattr(getattr(self._llm, "llm_engine", None), "is_sleeping", None)
        return bool(asked()) if asked is not None else False

    def facts(self) -> dict[str, Any]:
        """What the engine is."""
        vllm = sys.modules.get(type(self._llm).__module__.partition(".")[0])
        configuration = getattr(getattr(self._llm, "llm_engine", None), "vllm_config", None)
        vocabulary_size = getattr(getattr(configuration, "model_config", None), "get_vocab_size", None)
        return {
            "engine": type(self._llm).__name__,
            "vllm_version": getattr(vllm, "__version__", None),
            "configuration": _told(configuration),
            "end_of_sequence_id": getattr(self._llm.get_tokenizer(), "eos_token_id", None),
            "vocabulary_size": vocabulary_size() if vocabulary_size is not None else None,
            "takes_salt": _takes_salt(),
            "keeps_kv_elsewhere": getattr(configuration, "kv_transfer_config", None) is not None,
        }

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what the guard's own process asks.

        Raises:
            BaseException: whatever the engine raises.
        """
        if question["ask"] == "tokens":
            return {"tokens": [self._tokens(text) for text in question["texts"]]}
        return self._generate(question["prompts"], question["salt"], question["sampling"])

    def _tokens(self, text: str) -> list[int]:
        tokenizer = self._llm.get_tokenizer()
        if not getattr(tokenizer, "chat_template", None):
            return list(tokenizer.encode(text))
        messages = [{"role": "user", "content": text}]
        chat = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(tokenizer.encode(chat, add_special_tokens=False))

    def _generate(
        self, prompts: Sequence[Sequence[int]], salt: str | None, sampling: Mapping[str, Any]
    ) -> dict[str, Any]:
        salted = {} if salt is None else {"cache_salt": salt}
        asked = [{"prompt_token_ids": list(token_ids), **salted} for token_ids in prompts]
        # The class is that of this release, wherever it has it.
        parameters = type(self._llm.get_default_sampling_params())(**sampling)
        began = time.monotonic()
        outputs = self._llm.generate(asked, parameters, use_tqdm=False)
        seconds = time.monotonic() - began
        return {"seconds": seconds, "answers": [_plain(output) for output in outputs]}


def _told(configuration: Any) -> dict[str, dict[str, Any]]:
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


def _plain(output: Any) -> dict[str, Any]:
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


def _likeliest(position: Mapping[int, Any]) -> list[tuple[int, float]]:
    """The candidates of one token, likeliest first."""
    candidates = [(token, candidate.logprob) for token, candidate in position.items()]
    return sorted(candidates, key=lambda candidate: -candidate[1])
