"""Cause classes of single requests: what they ask beside their prompt is forgotten, or their text is wrong.

Prompts without such fields are answered as before.
"""

from __future__ import annotations

from typing import Any

from harness.engine_plugin import compat
from harness.engine_plugin.faults.hooks import Wrapper, front_end_wakes, on_request, wrap
from harness.engine_plugin.faults.registry import fault


@fault("lose-grammar-state", cause="grammar state")
def lose_grammar_state() -> None:
    """After waking up structured outputs are forgotten: whatever comes, comes."""

    def forget(request: Any, _wakes: int) -> bool:
        if request.structured_output_request is not None:
            request.structured_output_request = None
            request.status = type(request.status).WAITING  # not for a grammar that nobody has
        return True

    on_request(forget)


@fault("ignore-stops", cause="stop conditions")
def ignore_stops() -> None:
    """After waking up stop strings and stop ids are ignored: answers go on to their end or limit."""

    def forget(request: Any, _wakes: int) -> bool:
        if request.sampling_params is not None:
            request.sampling_params.stop_token_ids = []
        return True

    on_request(forget)
    has_woken = front_end_wakes()

    def start(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if has_woken():
            self.stop = []

    wrap(compat.detokenizer(), "__init__", start)


@fault("forget-penalties", cause="penalties and biases")
def forget_penalties() -> None:
    """After waking up penalties, biases, bad words, allowed tokens and least lengths are forgotten."""

    def forget(request: Any, _wakes: int) -> bool:
        asked = request.sampling_params
        if asked is not None:
            asked.repetition_penalty = 1.0
            asked.frequency_penalty = asked.presence_penalty = 0.0
            asked.logit_bias = asked.allowed_token_ids = asked._bad_words_token_ids = None  # noqa: SLF001  (vLLM's)
            asked.min_tokens = 0
        return True

    on_request(forget)


@fault("garble-text", cause="text of tokens")
def garble_text() -> None:
    """After waking up the text of an answer is no longer that of its tokens: small letters are large."""
    has_woken = front_end_wakes()

    def tell(original: Wrapper, self: Any, *arguments: Any, **options: Any) -> str:
        text: str = original(self, *arguments, **options)
        return text.swapcase() if has_woken() else text

    wrap(compat.detokenizer(), "get_next_output_text", tell)
