"""Sends prompts under named conditions and records what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import anyio
import numpy as np

from harness.drive.conditions import Condition, plan
from harness.drive.kinds import ask_kinds
from harness.drive.machine_load import machine_seen
from harness.drive.session import Reference, Session, Suspect, Target, failure_of, messages_of
from harness.history.event_base import UNTIMELY, CallFailure
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, CacheCondition, Control, Method, PassStarted, Prompt, Role
from harness.scenario.steps.asking import ProbeOptions
from harness.vllm_api import lifecycle
from harness.vllm_api.forcing import force
from harness.vllm_api.generation import GenerationRequest, Scoring, Weighed, generate, score
from harness.vllm_api.versions import Feature

SUSPICIOUS_SHIFT = 0.01
"""nat; a token whose log-probability moved further is worth control questions, whatever the noise is."""


def role_and_target(session: Session, options: ProbeOptions) -> tuple[Role, Target]:
    """What a probe is evidence of, whom it asks, and what its answers must equal.

    The first probe of a cell is a baseline, and so is one that says so; one after a transition is judged
    against its baseline; one with nothing in between measures noise.
    """
    if options.baseline or not session.references:
        reference = Reference(
            name=options.name,
            adapter=options.adapter,
            weights=session.state.weights,
            transitions=session.transitions,
        )
        session.references[reference.name] = reference
        return Role.BASELINE, Target(options.adapter, reference)
    reference = session.reference(options.same_as)
    changed = session.transitions > reference.transitions
    return Role.AFTER if changed else Role.NULL, Target(options.adapter, reference)


async def run_probe(session: Session, options: ProbeOptions, *, role: Role, target: Target) -> list[Suspect]:
    """Run every pass of a probe; return the answers that are worth control questions."""
    asked = plan(session.scenario, options, role=role, caches=session.caches_prompts)
    await session.observe("before")
    suspects = await run_passes(
        session,
        probe=options.name,
        role=role,
        conditions=asked.passes,
        target=target,
        differs_from=options.differs_from,
    )
    if asked.unseen:
        await ask_unseen_prompts(
            session, role=role, probe=options.name, target=target, concurrency=asked.concurrency
        )
    await session.observe("after")
    # Beyond that look, so that the engine's own times are those of the passes.  A probe that says what it
    # asks is about that alone.
    if target.adapter is None and (role is Role.BASELINE or options.evidence is None):
        await ask_kinds(session, target.reference, probe=options.name, role=role)
    return suspects


async def run_passes(
    session: Session,
    *,
    probe: str,
    role: Role,
    conditions: Sequence[Condition],
    target: Target,
    differs_from: tuple[str, ...] = (),
) -> list[Suspect]:
    """Send the prompts once under each condition; return the answers that are worth control questions."""
    suspects: list[Suspect] = []
    prompts = [prompt for prompt in session.prompts if not prompt.held_out]
    for condition in conditions:
        answers = await run_pass(
            session,
            prompts,
            probe=probe,
            role=role,
            condition=condition,
            target=target,
            differs_from=differs_from,
        )
        if role is Role.BASELINE:
            target.reference.answers[condition] = {answer.prompt: answer for answer in answers}
        else:
            suspects.extend(suspects_among(answers, target.reference, condition))
    return suspects


async def ask_unseen_prompts(
    session: Session, *, role: Role, probe: str, target: Target, concurrency: int
) -> None:
    """Send the held-out prompts by themselves: a pass of another size would round differently."""
    unseen = [prompt for prompt in session.prompts if prompt.held_out]
    if unseen:
        await run_pass(
            session,
            unseen,
            probe=probe,
            role=role,
            condition=Condition(cache=CacheCondition.COLD, concurrency=concurrency),
            target=target,
            control=Control.UNSEEN_PROMPTS if role is Role.CONTROL else None,
        )


async def run_pass(
    session: Session,
    prompts: Sequence[Prompt],
    *,
    probe: str,
    role: Role,
    condition: Condition,
    target: Target,
    control: Control | None = None,
    differs_from: tuple[str, ...] = (),
) -> list[Answer]:
    """Send each of ``prompts`` once under ``condition``, and record every answer as it comes."""
    recorder = session.recorder
    cold = condition.cache is CacheCondition.COLD
    if cold and session.lacks(Feature.CACHE_SALT):
        # Without salts only an empty cache makes sure that nothing is read from it.
        deadline = session.scenario.deadlines.transition
        session.call_recorded(
            await lifecycle.reset_prefix_cache(session.connection.http, deadline_s=deadline)
        )
    if condition.method.tokens_are_given:
        prompts = [prompt for prompt in prompts if target.reference.tokens_to_score(prompt)]
    start = PassStarted(
        t=recorder.now(),
        number=recorder.next_pass_number(),
        step=session.step or "",
        probe=probe,
        role=role,
        method=condition.method,
        cache=condition.cache,
        concurrency=condition.concurrency,
        cycle=session.cycle,
        control=control,
        adapter=target.adapter,
        reference=target.reference.name,
        differs_from=differs_from,
        asked=tuple(prompt.id for prompt in prompts),
    )
    recorder.record(start)
    salt = f"{session.salt}-{start.number}" if cold else session.salt
    limiter = anyio.CapacityLimiter(condition.concurrency)
    answers: list[Answer] = []

    async with machine_seen(session, pass_number=start.number), session.watched() as watch:

        async def ask(prompt: Prompt) -> None:
            given = target.reference.tokens_to_score(prompt)
            question = _Question(session=session, prompt=prompt, start=start, salt=salt, given=given)
            async with limiter:
                asked_at = recorder.now()
                with watch.unless_it_hangs() as scope:
                    answer = await question.answer()
                if scope.cancelled_caught:
                    answer = question.failed(watch.failure, seconds=recorder.now() - asked_at)
            recorder.record(answer)
            watch.vigil.answered()
            answers.append(answer)

        async with anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(ask, prompt)
        if any(answer.failure and answer.failure.kind in UNTIMELY for answer in answers):
            session.record_wait(watch, answers=len(prompts), pass_number=start.number)
    session.answers = all(answer.failure is None for answer in answers)
    return answers


class _Place(TypedDict):
    """What says of an answer when it came, and to what."""

    t: float
    pass_number: int
    prompt: str


class _Told(TypedDict):
    """What is recorded of every answer that has tokens."""

    cached_tokens: int | None
    system_fingerprint: str | None
    logprobs: Logprobs
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Question:
    """One prompt of a pass: how it is asked, and how what comes back is recorded."""

    session: Session
    prompt: Prompt
    start: PassStarted
    salt: str
    given: tuple[int, ...]
    """The baseline's tokens, for passes in which the engine only weighs these."""

    async def answer(self) -> Answer:
        """Ask once, and wait for all of it."""
        match self.start.method:
            case Method.SCORED:
                return await self._scored()
            case Method.FORCED:
                request = self._request(max_tokens=len(self.given))
                return self._weighed(await force(self.session.connection.http, request, self.given))
            case _:
                return await self._generated()

    def failed(self, failure: CallFailure | None, *, seconds: float) -> Answer:
        """What is recorded where nothing came back."""
        return Answer(**self._place(), seconds=seconds, failure=failure)

    async def _generated(self) -> Answer:
        sampling = self.session.scenario.sampling
        request = replace(
            self._request(max_tokens=sampling.max_tokens),
            messages=messages_of(self.prompt),
            temperature=1.0 if self.start.method is Method.SAMPLED else sampling.temperature,
            seed=sampling.seed,
        )
        generation = await generate(self.session.connection.openai, request)
        if generation.error is not None:
            return self.failed(failure_of(generation.error), seconds=generation.seconds)
        return Answer(
            **self._place(),
            token_ids=generation.token_ids,
            text=generation.text,
            finish_reason=generation.finish_reason,
            stop_reason=generation.stop_reason,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            **_told(generation),
        )

    async def _scored(self) -> Answer:
        scoring = await score(
            self.session.connection.openai,
            (*self.prompt.token_ids, *self.given),
            model=self._model,
            deadline_s=self.session.scenario.deadlines.answer,
            top_logprobs=self.session.scenario.sampling.logprobs,
            cache_salt=self.salt,
        )
        # The prompt's own tokens are scored as well; its first is not.
        return self._weighed(scoring, first=len(self.prompt.token_ids) - 1)

    def _weighed(self, scoring: Scoring, *, first: int = 0) -> Answer:
        """The answer that consists of the given tokens, whose rows begin with the one called ``first``."""
        if scoring.error is not None:
            return self.failed(failure_of(scoring.error), seconds=scoring.seconds)
        return Answer(**self._place(), token_ids=self.given, **_told(scoring, first=first))

    @property
    def _model(self) -> str:
        return self.start.adapter or self.session.served_model_name

    def _request(self, *, max_tokens: int) -> GenerationRequest:
        return GenerationRequest(
            prompt_token_ids=self.prompt.token_ids,
            max_tokens=max_tokens,
            model=self._model,
            deadline_s=self.session.scenario.deadlines.answer,
            cache_salt=self.salt,
            top_logprobs=self.session.scenario.sampling.logprobs,
        )

    def _place(self) -> _Place:
        return {
            "t": self.session.recorder.now(),
            "pass_number": self.start.number,
            "prompt": self.prompt.id,
        }


def _told(weighed: Weighed, *, first: int = 0) -> _Told:
    return {
        "cached_tokens": weighed.cached_tokens,
        "system_fingerprint": weighed.system_fingerprint,
        "logprobs": Logprobs.pack(
            chosen=weighed.chosen_logprobs[first:],
            top_ids=weighed.top_ids[first:],
            top_values=weighed.top_logprobs[first:],
        ),
        "seconds": weighed.seconds,
    }


def suspects_among(
    answers: Iterable[Answer], reference: Reference, condition: Condition
) -> Iterator[Suspect]:
    """The answers that are not the baseline's.

    Sampled ones are left out: the control questions are asked without sampling.
    """
    if condition.method is Method.SAMPLED:
        return
    baseline = reference.answers.get(condition) or next(iter(reference.answers.values()), {})
    for answer in answers:
        before = baseline.get(answer.prompt)
        if before is not None and _differs(before, answer):
            yield Suspect(before=before, after=answer, condition=condition)


def _differs(before: Answer, after: Answer) -> bool:
    if (after.token_ids, after.failure) != (before.token_ids, before.failure):
        return True
    if before.logprobs is None or after.logprobs is None:
        return False
    shift = np.abs(before.logprobs.chosen - after.logprobs.chosen)
    return bool((shift > SUSPICIOUS_SHIFT).any() or np.isnan(shift).any())
