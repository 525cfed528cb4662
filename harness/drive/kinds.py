"""Asks requests of other kinds than a probe's, all of them at the same time, and records what came back.

What is asked is put together once, at the baseline, from what the engine says then: a stop string has to be a
word that would come.  From there on the same is asked.  Whatever is not answered as in the baseline is asked
once more, alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import anyio
from pydantic import JsonValue

from harness.drive.session import OBSERVATION_DEADLINE_S, Reference, Session, failure_of
from harness.drive.standstill import Watch
from harness.history.event_base import CallFailure
from harness.history.kinds import KindAnswer, KindAnswered, KindChoice, ToolCall
from harness.history.passes import Role
from harness.kinds import KINDS, Kind, Question, Setting
from harness.kinds.kind import greedy
from harness.scenario.steps.asking import FEW, KindName
from harness.vllm_api import lifecycle
from harness.vllm_api.any_request import Told, streamed_of, told_of
from harness.vllm_api.versions import Feature

_PLAIN = Question(body=greedy())
_NOT_THERE = (400, 404, 422)
"""How a server refuses a request that it does not know."""


def chosen(names: Sequence[KindName] | str | None) -> tuple[Kind, ...]:
    """The kinds that a scenario asks for."""
    match names:
        case None:
            return ()
        case str():
            return tuple(kind for kind in KINDS.values() if kind.cheap or names != FEW)
        case _:
            return tuple(KINDS[name] for name in names)


async def ask_kinds(session: Session, reference: Reference, *, probe: str, role: Role) -> None:
    """Ask one round of every kind that the scenario wants; those that the server refused, no more."""
    kinds = chosen(session.scenario.kinds)
    if not kinds or session.lacks(Feature.STRUCTURED_OUTPUTS):  # such releases spell half of them otherwise
        return
    if role is Role.BASELINE:
        setting = await _setting(session)
        reference.questions.update({kind.name: tuple(kind.ask(setting)) for kind in kinds})
    asked = {name: questions for name, questions in reference.questions.items() if questions}
    answered = await _round(session, asked)
    for name, answers in answered.items():
        _record(session, reference, name, answers, probe=probe, role=role)
        if role is Role.BASELINE:
            reference.kinds[name] = answers
            if any(map(_is_refused, answers)):
                del reference.questions[name]
        elif not alike(reference.kinds[name], answers):
            again = await _round(session, {name: asked[name]})
            _record(session, reference, name, again[name], probe=probe, role=role, again=True)


def start_kinds(session: Session, reference: Reference, *, group: str) -> None:
    """Send one round of every kind beside the script, with the requests of this group."""
    session.rounds += 1
    came: dict[str, list[KindAnswer]] = {}
    session.kinds_in_flight[group] = came

    async def ask(name: str, place: int, question: Question, salt: str) -> None:
        came[name][place] = await _answer(session, question, salt=salt, watch=None)

    for name, questions in reference.questions.items():
        each = [*_each(questions)]
        came[name] = [_given_up(question) for question in each]
        for place, question in enumerate(each):
            salt = f"kinds-{session.rounds}-{name}-{place}"
            session.in_flight.accompany(group, partial(ask, name, place, question, salt))


def finish_kinds(session: Session, reference: Reference, *, group: str, is_judged: bool) -> None:
    """Record what came of those that were sent with a group, which has ended."""
    came = session.kinds_in_flight.pop(group, {})
    for name, answers in came.items() if is_judged else ():
        if answers:
            _record(session, reference, name, tuple(answers), probe=group, role=Role.AFTER, in_flight=True)


def _given_up(question: Question) -> KindAnswer:
    late = CallFailure(kind="timeout", message="did not end in time")
    return KindAnswer(path=question.path, body=question.body, streamed=question.streamed, failure=late)


def alike(one: Sequence[KindAnswer], other: Sequence[KindAnswer]) -> bool:
    """Whether two rounds of one kind have the same tokens, texts and ends."""
    return [*map(_essence, one)] == [*map(_essence, other)]


def _essence(answer: KindAnswer) -> tuple[object, ...]:
    said = tuple((each.token_ids, each.text, each.finish_reason, each.tool_calls) for each in answer.choices)
    return (said, answer.prompt_tokens, answer.retold, answer.failure is None)


def _is_refused(answer: KindAnswer) -> bool:
    return answer.failure is not None and answer.failure.status in _NOT_THERE


async def _setting(session: Session) -> Setting:
    """What questions are made of: a plain answer, token by token, and the engine's limits."""
    async with session.watched() as watch:
        plain = await _answer(session, _PLAIN, salt="plain", watch=watch)
    ids = plain.choices[0].token_ids if plain.choices else ()
    prompt = next((each.token_ids for each in session.prompts if not each.picture), ())
    return Setting(
        token_ids=ids,
        pieces=tuple([await _read_out(session, (token,)) or "" for token in ids]),
        end_of_sequence=session.limits.end_of_sequence,
        max_model_len=session.limits.max_model_len,
        slots=session.limits.slots,
        long_prompt=prompt,
    )


async def _round(
    session: Session, asked: Mapping[str, Sequence[Question]]
) -> dict[str, tuple[KindAnswer, ...]]:
    """Send everything at the same time; what comes back is in the order of the questions."""
    session.rounds += 1
    came: dict[tuple[str, int], KindAnswer] = {}
    async with session.watched() as watch, anyio.create_task_group() as group:

        async def ask(name: str, number: int, question: Question) -> None:
            salt = f"kinds-{session.rounds}-{name}-{number}"
            came[name, number] = await _answer(session, question, salt=salt, watch=watch)

        for name, questions in asked.items():
            for number, question in enumerate(_each(questions)):
                group.start_soon(ask, name, number, question)
    return {
        name: tuple(came[name, number] for number, _ in enumerate(_each(questions)))
        for name, questions in asked.items()
    }


def _each(questions: Sequence[Question]) -> Iterator[Question]:
    return (question for question in questions for _ in range(question.copies))


async def _answer(session: Session, question: Question, *, salt: str, watch: Watch | None) -> KindAnswer:
    """Ask once; without a ``watch`` the engine may sleep meanwhile, and nobody takes that for a hang."""
    http, deadline_s = session.connection.http, session.scenario.deadlines.answer
    body: dict[str, JsonValue] = {
        **question.body,
        "model": session.served_model_name,
        "cache_salt": f"{session.salt}-{salt}",
    }
    ask = streamed_of if question.streamed else told_of
    started = session.recorder.now()
    told: Told | None = None
    with watch.unless_it_hangs() if watch else nullcontext():
        told = await ask(http, question.path, body, deadline_s=deadline_s)
        if watch:
            watch.vigil.answered()
    unanswered = KindAnswer(path=question.path, body=question.body, streamed=question.streamed)
    if told is None or told.error is not None:
        seconds = told.seconds if told else session.recorder.now() - started
        failure = failure_of(told.error) if told else watch.failure if watch else None
        return unanswered.model_copy(update={"seconds": seconds, "failure": failure})
    answer = unanswered.model_copy(update=_fields(told))
    if question.retold and answer.choices:
        ends = session.limits.end_of_sequence
        ids = tuple(token for token in answer.choices[0].token_ids if token not in ends)
        answer = answer.model_copy(update={"retold": await _read_out(session, ids)})
    return answer


def _fields(told: Told) -> dict[str, object]:
    choices = tuple(
        KindChoice(
            text=each.text,
            token_ids=each.token_ids,
            logprobs=each.logprobs,
            ranks=each.ranks,
            candidates=each.candidates,
            finish_reason=each.finish_reason,
            stop_reason=each.stop_reason,
            tool_calls=tuple(ToolCall(name=name, arguments=said) for name, said in each.tool_calls),
        )
        for each in told.choices
    )
    return {
        "choices": choices,
        "prompt_tokens": told.usage.prompt_tokens if told.usage else None,
        "completion_tokens": told.usage.completion_tokens if told.usage else None,
        "prompt_logprobs": told.prompt_logprobs,
        "seconds": told.seconds,
    }


async def _read_out(session: Session, ids: tuple[int, ...]) -> str | None:
    """What tokens read by themselves; None where the server does not tell."""
    told = await lifecycle.detokenize(
        session.connection.http, ids, model=session.served_model_name, deadline_s=OBSERVATION_DEADLINE_S
    )
    text = told.field("prompt")
    return text if isinstance(text, str) else None


def _record(
    session: Session,
    reference: Reference,
    name: str,
    answers: tuple[KindAnswer, ...],
    *,
    probe: str,
    role: Role,
    again: bool = False,
    in_flight: bool = False,
) -> None:
    session.recorder.record(
        KindAnswered(
            t=session.recorder.now(),
            asks=name,
            step=session.step or "",
            probe=probe,
            role=role,
            reference=reference.name,
            cycle=session.cycle,
            again=again,
            in_flight=in_flight,
            answers=answers,
        )
    )
