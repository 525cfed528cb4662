"""What the oracle of each kind says of right answers and of wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.history.event_base import CallFailure
from harness.history.kinds import KindAnswer, KindChoice, ToolCall
from harness.kinds import KINDS, Question, Setting

END = 2
SETTING = Setting(
    token_ids=(11, 12, 13, 14, 15, 16, 17, 11),
    pieces=(" will", " be", " in", " the", " city", " of", " light", " will"),
    end_of_sequence=(END,),
    max_model_len=64,
    slots=3,
    long_prompt=tuple(range(20, 50)),
)


def asked(name: str) -> tuple[Question, ...]:
    """The questions of a kind in this setting."""
    return tuple(KINDS[name].ask(SETTING))


def said(name: str, *choices: KindChoice, question: int = 0, **more: Any) -> KindAnswer:
    """An answer to a question of this kind, counted rightly."""
    put = asked(name)[question]
    answer = KindAnswer(
        path=put.path,
        body=put.body,
        streamed=put.streamed,
        choices=choices,
        completion_tokens=sum(len(choice.token_ids) for choice in choices),
        prompt_tokens=10,
    )
    return answer.model_copy(update=more)


def choice(text: str = "", *ids: int, **more: Any) -> KindChoice:
    """A choice that ended by itself; its tokens are made up where none are given."""
    told = KindChoice(text=text, token_ids=ids or (31, 32, 33), finish_reason="stop")
    return told.model_copy(update=more)


def wrong(name: str, *answers: KindAnswer) -> list[str]:
    """What the kind says of these answers."""
    return list(KINDS[name].violations(answers))


CUT = range(40)
"""As many tokens as a structured output may have."""

RIGHT_AND_WRONG = [
    ("json-schema", [choice('{"place": "sea"}')], [choice('{"place": "hill"}')]),
    ("json-schema", [choice('{"place":\n"city"}')], [choice("once upon a time")]),
    ("regex", [choice("ABC-12")], [choice("ABC-12 and")]),
    ("choice", [choice("north")], [choice("up")]),
    ("grammar", [choice("go south 3")], [choice("go south")]),
    ("stop-strings", [choice("a ", stop_reason="in")], [choice("a tin", stop_reason=None)]),
    (
        "json-schema",
        [choice('{ "pla', *CUT, finish_reason="length")],
        [choice("by the", *CUT, finish_reason="length")],
    ),
    ("stop-ids", [choice("a", 11, 12, 13, stop_reason=13)], [choice("a", 11, 13, 14, 15)]),
    ("repetition-penalty", [choice("a", 31, 32, 33)], [choice("a", 31, 32, 31)]),
    ("frequency-penalty", [choice("a", 11, 12, 11)], [choice("a", 11, 11, 11)]),
    ("logit-bias", [choice("a", 17, 17)], [choice("a", 17, 11)]),
    ("bad-words", [choice("be w ill", 12, 40, 41)], [choice("it will be", 40, 11, 12)]),
    ("allowed-ids", [choice("a", 14, 15, 16, 17)], [choice("a", 14, 99)]),
    ("min-tokens", [choice("a", 1, 3, 4, 5, END)], [choice("a", END)]),
    (
        "min-tokens",
        [choice("a", 1, 3, 4, 5, END)],
        [choice("a", 1, 3, 4, 5, 6, 7, 8, 9, finish_reason="length")],
    ),
    ("seeded", [choice("a", ranks=(1, 3, 2))], [choice("a", ranks=(1, 4))]),
    ("several", [choice("a", 1), choice("b", 4)] * 8, [choice("a", 1)] * 16),
    ("several", [choice("a", 1), choice("b", 4)] * 8, [choice("a", 1), choice("b", 4)]),
    (
        "tools",
        [choice("", tool_calls=(ToolCall(name="find_place", arguments='{"place": "sea"}'),))],
        [choice("", tool_calls=(ToolCall(name="find_place", arguments="{"),))],
    ),
    (
        "tools",
        [choice("", tool_calls=(ToolCall(name="find_place", arguments='{"place": "sea"}'),))],
        [choice("I would rather not.")],
    ),
]


@pytest.mark.parametrize(("name", "right", "other"), RIGHT_AND_WRONG)
def test_an_oracle_tells_right_from_wrong(
    name: str, right: Sequence[KindChoice], other: Sequence[KindChoice]
) -> None:
    """It says nothing of an answer that is as it was asked for, and something of one that is not."""
    assert wrong(name, said(name, *right)) == []
    assert wrong(name, said(name, *other)) != []


def test_a_chat_has_no_marks_of_its_template_and_a_longer_prompt_with_a_system_prompt() -> None:
    """What only the template writes must not come back, and a system prompt must count."""
    long, short = said("chat", choice("Aye."), prompt_tokens=30), said("chat", choice("Paris."))
    assert wrong("chat", long, short) == []
    assert wrong("chat", long, said("chat", choice(""))) == []
    assert wrong("chat", long, said("chat", choice("Paris.<|im_end|>"))) != []
    assert wrong("chat", said("chat", choice("Aye.")), short) != []


def test_a_stream_adds_up_to_the_answer_in_one_piece_and_to_the_text_of_its_tokens() -> None:
    """The same tokens have one text, whichever way they come."""
    whole = said("streamed", choice("a city"), retold="a city")
    assert wrong("streamed", whole, said("streamed", choice("a city"), question=1, retold="a city")) == []
    cut = said("streamed", choice(" a city"), question=1, retold="a city\N{REPLACEMENT CHARACTER}")
    assert wrong("streamed", said("streamed", choice(" a city"), retold="a city"), cut) == []
    assert wrong("streamed", whole, said("streamed", choice("a ity"), question=1, retold="a ity")) != []
    assert wrong("streamed", whole, said("streamed", choice("A CITY"), question=1, retold="a city")) != []


def test_every_token_of_a_prompt_but_the_first_is_scored() -> None:
    """As many as the prompt has tokens, and each of them a log-probability."""
    one = choice("a", 31, finish_reason="length")
    assert wrong("prompt-logprobs", said("prompt-logprobs", one, prompt_logprobs=(None, *[-1.0] * 9))) == []
    assert wrong("prompt-logprobs", said("prompt-logprobs", one, prompt_logprobs=(None, -1.0))) != []
    nan = (None, *[-1.0] * 8, float("nan"))
    assert wrong("prompt-logprobs", said("prompt-logprobs", one, prompt_logprobs=nan)) != []


def test_an_answer_reaches_the_models_end() -> None:
    """Prompt and answer together are as long as the model allows, and not a token shorter."""
    (question,) = asked("to-the-end")
    prompt, room = question.body["prompt"], question.body["max_tokens"]
    assert isinstance(prompt, list)
    assert isinstance(room, int)
    assert len(prompt) + room == SETTING.max_model_len
    whole = choice("a", *range(100, 100 + room), finish_reason="length")
    assert wrong("to-the-end", said("to-the-end", whole)) == []
    assert wrong("to-the-end", said("to-the-end", choice("a", 100, 101))) != []


def test_more_are_asked_than_run_at_a_time() -> None:
    """Some have to wait for a place, and each of them is answered."""
    (question,) = asked("many")
    assert question.copies > (SETTING.slots or 0)
    sound = choice("a", 1, 3, 4, 5, finish_reason="length")
    late = CallFailure(kind="timeout", message="no answer within 60 s")
    assert wrong("many", said("many", sound), said("many", sound)) == []
    assert wrong("many", said("many", sound), said("many", failure=late)) != []


@pytest.mark.parametrize("name", KINDS)
def test_no_answer_may_contradict_itself(name: str) -> None:
    """Of whatever kind: tokens are as many as usage says, and an end has a reason."""
    bare = said(name, choice("a"), completion_tokens=99)
    assert any("usage says 99" in sentence for sentence in wrong(name, bare))
    cut = said(name, choice("a", finish_reason="abort"))
    assert any("'abort'" in sentence for sentence in wrong(name, cut))


def test_nothing_is_asked_where_nothing_could_be_told() -> None:
    """Without a plain answer and without limits, kinds that are made of these have no question."""
    bare = {name for name, kind in KINDS.items() if not kind.ask(Setting())}
    made_of_the_answer = {"stop-strings", "stop-ids", "logit-bias", "bad-words", "allowed-ids"}
    assert bare == made_of_the_answer | {"frequency-penalty", "min-tokens", "to-the-end", "many"}
