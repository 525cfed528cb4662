"""Requests of every length, from less than a block to the model's end; and more than run at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, greedy, nothing_more

CAUSE = "scheduler or protocol"

_LEFT = 16
"""Tokens of the longest answer that a prompt leaves room for."""
_ROUNDING = 1e-4
"""nat; by how much a probability may exceed 1."""
_MOST_AT_ONCE = 320
_BESIDE = 4
"""Requests beyond those that run at a time."""


def _ask_shortly(_: Setting) -> Sequence[Question]:
    return (Question(body=greedy()),)


def _ask_to_score(_: Setting) -> Sequence[Question]:
    return (Question(body=greedy(prompt_logprobs=1, max_tokens=1)),)


def _every_token_scored(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        told = answer.prompt_logprobs
        if len(told) != answer.prompt_tokens:
            yield f"{len(told)} log-probabilities for a prompt of {answer.prompt_tokens} tokens"
        unsound = [each for each in told[1:] if each is None or math.isnan(each) or each > _ROUNDING]
        if unsound:
            yield f"{len(unsound)} log-probabilities of the prompt are no such thing, as {unsound[0]}"


def _ask_to_the_end(setting: Setting) -> Sequence[Question]:
    if setting.max_model_len is None or not setting.long_prompt:
        return ()
    length = setting.max_model_len - _LEFT
    repeated = setting.long_prompt * -(-length // len(setting.long_prompt))
    body = greedy(prompt=[*repeated[:length]], max_tokens=_LEFT, ignore_eos=True)
    return (Question(body=body),)


def _reaches_it(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        came = answer.completion_tokens
        if came != _LEFT or answer.choices[0].finish_reason != "length":
            yield f"the answer had room for {_LEFT} tokens to the model's end, and {came} came"


def _ask_many(setting: Setting) -> Sequence[Question]:
    if setting.slots is None or setting.slots + _BESIDE > _MOST_AT_ONCE:
        return ()
    return (Question(body=greedy(max_tokens=4), copies=setting.slots + _BESIDE),)


SHORT = Kind(
    name="short",
    summary="a prompt shorter than one block of the KV cache",
    cause=CAUSE,
    ask=_ask_shortly,
    oracle=nothing_more,
)
PROMPT_LOGPROBS = Kind(
    name="prompt-logprobs",
    summary="log-probabilities of the prompt: one of every token but the first",
    cause=CAUSE,
    ask=_ask_to_score,
    oracle=_every_token_scored,
)
TO_THE_END = Kind(
    name="to-the-end",
    summary="a prompt of many blocks, and an answer to the model's end",
    cause=CAUSE,
    ask=_ask_to_the_end,
    oracle=_reaches_it,
    cheap=False,
)
MANY = Kind(
    name="many",
    summary="more requests at once than run at a time: each is answered",
    cause=CAUSE,
    ask=_ask_many,
    oracle=nothing_more,
    cheap=False,
)
