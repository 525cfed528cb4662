"""Requests of every kind, on the fake and on a real engine: each is right by its own oracle, and again."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import pytest
from pydantic import JsonValue

from harness.history.kinds import KindAnswer, KindChoice
from harness.kinds import KINDS, Question, Setting
from harness.kinds.kind import COMPLETIONS, PROMPT, greedy
from harness.vllm_api import lifecycle
from harness.vllm_api.any_request import Told, streamed_of, told_of
from tests.contract.conftest import CALL_DEADLINE_S, Subject

pytestmark = pytest.mark.anyio

END_OF_SEQUENCE = 2
"""Of the default model as of the toy."""

TAKES_A_PARSER = "tools"
DEAR = {name for name, kind in KINDS.items() if not kind.cheap}


async def ask(subject: Subject, question: Question, *, salt: str) -> Told:
    """Ask once."""
    body: Mapping[str, JsonValue] = {**question.body, "model": subject.model, "cache_salt": salt}
    asking = streamed_of if question.streamed else told_of
    return await asking(subject.connection.http, question.path, body, deadline_s=CALL_DEADLINE_S)


async def read_out(subject: Subject, *tokens: int) -> str:
    """What tokens read."""
    told = await lifecycle.detokenize(
        subject.connection.http, tokens, model=subject.model, deadline_s=CALL_DEADLINE_S
    )
    return str(told.field("prompt"))


async def setting(subject: Subject) -> Setting:
    """What the kinds are put together from."""
    plain = await ask(subject, Question(body=greedy()), salt="plain")
    ids = plain.choices[0].token_ids
    return Setting(
        token_ids=ids,
        pieces=tuple([await read_out(subject, token) for token in ids]),
        end_of_sequence=(END_OF_SEQUENCE,),
    )


async def answers(subject: Subject, name: str, *, salt: str) -> tuple[KindAnswer, ...]:
    """One round of a kind."""
    came = []
    for number, question in enumerate(KINDS[name].ask(await setting(subject))):
        told = await ask(subject, question, salt=f"{salt}-{name}-{number}")
        assert told.error is None, told
        assert told.usage is not None
        first = [token for token in told.choices[0].token_ids if token != END_OF_SEQUENCE]
        choices = tuple(
            KindChoice(
                text=each.text,
                token_ids=each.token_ids,
                ranks=each.ranks,
                finish_reason=each.finish_reason,
                stop_reason=each.stop_reason,
            )
            for each in told.choices
        )
        came.append(
            KindAnswer(
                path=question.path,
                body=question.body,
                streamed=question.streamed,
                choices=choices,
                prompt_tokens=told.usage.prompt_tokens,
                completion_tokens=told.usage.completion_tokens,
                prompt_logprobs=told.prompt_logprobs,
                retold=await read_out(subject, *first) if question.retold else None,
            )
        )
    return tuple(came)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in DEAR])
async def test_a_kind_is_right_by_its_own_oracle_and_the_same_again(subject: Subject, name: str) -> None:
    """Its oracle has nothing to say, and a second round has the same tokens and texts."""
    one = await answers(subject, name, salt="one")
    assert one, "nothing was asked"
    assert list(KINDS[name].violations(one)) == []
    assert await answers(subject, name, salt="two") == one


async def test_a_prompt_of_the_kinds_is_shorter_than_a_block(subject: Subject) -> None:
    """It never touches the prefix cache."""
    told = await ask(subject, Question(body=greedy(max_tokens=1)), salt="short")
    assert told.usage is not None
    assert told.usage.prompt_tokens < subject.block_size
    assert greedy()["prompt"] == PROMPT


async def test_a_tool_takes_a_parser(subject: Subject) -> None:
    """A server without ``--tool-call-parser`` refuses to call a function, and says what it lacks."""
    (question,) = KINDS[TAKES_A_PARSER].ask(Setting())
    told = await ask(subject, question, salt="tools")
    assert told.error is not None
    assert told.error.status == 400
    assert "--tool-call-parser" in told.error.message


async def test_requests_at_the_same_time_do_not_mix(subject: Subject) -> None:
    """Each answer is that of its own request, whichever others are under way."""
    questions = [Question(body=greedy(max_tokens=number)) for number in range(1, 9)]
    came: dict[int, Told] = {}

    async def one(number: int, question: Question) -> None:
        came[number] = await ask(subject, question, salt=f"together-{number}")

    async with anyio.create_task_group() as group:
        for number, question in enumerate(questions):
            group.start_soon(one, number, question)
    lengths = [len(came[number].choices[0].token_ids) for number in range(len(questions))]
    assert lengths == [*range(1, 9)]
    assert all(each.path == COMPLETIONS for each in questions)
