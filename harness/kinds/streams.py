"""An answer in parts beside the same one in one piece: the parts add up, and the text is that of the ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, greedy

_CUT = "\N{REPLACEMENT CHARACTER}"


def _ask_twice(_: Setting) -> Sequence[Question]:
    body = greedy()
    return Question(body=body, retold=True), Question(body=body, streamed=True, retold=True)


def _adds_up(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        text = answer.choices[0].text
        if answer.retold is not None and _readable(answer.retold) != _readable(text):
            how = "streamed" if answer.streamed else "whole"
            yield f"the {how} answer reads {text!r}, but its tokens read {answer.retold!r}"
    whole, parts = answers[0].choices[0], answers[-1].choices[0]
    if whole.token_ids == parts.token_ids and whole.text != parts.text:
        yield f"the parts add up to {parts.text!r}, the same answer in one piece is {whole.text!r}"


def _readable(text: str) -> str:
    """Without what tokenizers add or leave out at either end: spaces, and letters that are cut in two."""
    return text.rstrip(_CUT).strip()


STREAMED = Kind(
    name="streamed",
    summary="one answer in parts and in one piece: same text, which is that of the tokens",
    cause="text of tokens",
    ask=_ask_twice,
    oracle=_adds_up,
)
