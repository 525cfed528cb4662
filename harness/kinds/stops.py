"""Stop strings and stop ids, chosen from what the engine says without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, greedy, only

CAUSE = "stop conditions"

_BEFORE = 2
"""Tokens that come before the one that stops, so that something is left of the answer."""


def _ask_with_string(setting: Setting) -> Sequence[Question]:
    later = [word for _, word in setting.words[_BEFORE:] if len(word) > 1]
    return (Question(body=greedy(stop=[later[0]])),) if later else ()


def _string_absent(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        word = only(answer, "stop")
        for choice in answer.choices:
            # Where it is absent, what ended the answer is for the comparison: noise may have led past it.
            if str(word) in choice.text:
                yield f"the stop string {word!r} stands in the answer {choice.text!r}"


def _ask_with_id(setting: Setting) -> Sequence[Question]:
    later = setting.own_ids[_BEFORE:]
    return (Question(body=greedy(stop_token_ids=[later[0]])),) if later else ()


def _id_last(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        stop = only(answer, "stop_token_ids")
        for choice in answer.choices:
            if stop in choice.token_ids[:-1]:
                yield f"tokens follow the stop id {stop}: {len(choice.token_ids)} came"


STOP_STRINGS = Kind(
    name="stop-strings",
    summary="a word of the plain answer as stop string: it must be absent",
    cause=CAUSE,
    ask=_ask_with_string,
    oracle=_string_absent,
)
STOP_IDS = Kind(
    name="stop-ids",
    summary="a token of the plain answer as stop id: nothing may follow it",
    cause=CAUSE,
    ask=_ask_with_id,
    oracle=_id_last,
)
