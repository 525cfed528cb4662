"""Sends prompts under named conditions and records what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import anyio
import numpy as np

from harness.drive.conditions import Condition, plan
from harness.drive.machine_load import machine_seen
from harness.drive.session import Reference, Session, Suspect, Target, failure_of, messages_of
from harness.history.events import (
    UNTIMELY,
    Answer,
    CacheCondition,
    CallFailure,
    Control,
    Logprobs,
    Method,
    PassStarted,
    Prompt,
    Role,
)
from harness.scenario.steps.asking import ProbeOptions
from harness.vllm_api import lifecycle
from harness.vllm_api.forcing import force
from harness.vllm_api.generation import Generation, GenerationRequest, Scoring, generate, score
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
    ask_one = {Method.SCORED: _score, Method.FORCED: _force}.get(condition.method, _generate)
    limiter = anyio.CapacityLimiter(condition.concurrency)
    answers: list[Answer] = []

    async with machine_seen(session, pass_number=start.number), session.watched() as watch:

        async def ask(prompt: Prompt) -> None:
            async with limiter:
                asked_at = recorder.now()
                with watch.unless_it_hangs() as scope:
                    answer = await ask_one(
                        session, prompt, start=start, salt=salt, reference=target.reference
                    )
                if scope.cancelled_caught:
                    answer = _without_answer(watch.failure, session, prompt, start, since=asked_at)
            recorder.record(answer)
            watch.vigil.answered()
            answers.append(answer)

        async with anyio.create_task_group() as group:
            for prompt in prompts:
                group.start_soon(ask, prompt)
        if any(answer.failure and answer.failure.kind in UNTIMELY for answer in answers):
            recorder.record(
                watch.vigil.waited(
                    t=recorder.now(),
                    step=session.step,
                    pass_number=start.number,
                    tokens=len(prompts) * session.scenario.sampling.max_tokens,
                )
            )
    session.answers = all(answer.failure is None for answer in answers)
    return answers


async def _generate(
    session: Session,
    prompt: Prompt,
    *,
    start: PassStarted,
    salt: str,
    reference: Reference,  # noqa: ARG001 - where tokens are given it has them
) -> Answer:
    sampling = session.scenario.sampling
    request = GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        messages=messages_of(prompt),
        max_tokens=sampling.max_tokens,
        model=start.adapter or session.served_model_name,
        deadline_s=session.scenario.deadlines.answer,
        temperature=1.0 if start.method is Method.SAMPLED else sampling.temperature,
        seed=sampling.seed,
        cache_salt=salt,
        top_logprobs=sampling.logprobs,
    )
    generation = await generate(session.connection.openai, request)
    if generation.error is not None:
        return _failed(generation, session, prompt, start)
    return Answer(
        t=session.recorder.now(),
        pass_number=start.number,
        prompt=prompt.id,
        token_ids=generation.token_ids,
        text=generation.text,
        finish_reason=generation.finish_reason,
        stop_reason=generation.stop_reason,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        cached_tokens=generation.cached_tokens,
        system_fingerprint=generation.system_fingerprint,
        logprobs=Logprobs.pack(
            chosen=generation.chosen_logprobs,
            top_ids=generation.top_ids,
            top_values=generation.top_logprobs,
        ),
        seconds=generation.seconds,
    )


async def _score(
    session: Session, prompt: Prompt, *, start: PassStarted, salt: str, reference: Reference
) -> Answer:
    tokens = reference.tokens_to_score(prompt)
    scoring = await score(
        session.connection.openai,
        (*prompt.token_ids, *tokens),
        model=start.adapter or session.served_model_name,
        deadline_s=session.scenario.deadlines.answer,
        top_logprobs=session.scenario.sampling.logprobs,
        cache_salt=salt,
    )
    # The prompt's own tokens are scored as well; its first is not.
    return _weighed(scoring, tokens, session, prompt, start, first=len(prompt.token_ids) - 1)


async def _force(
    session: Session, prompt: Prompt, *, start: PassStarted, salt: str, reference: Reference
) -> Answer:
    tokens = reference.tokens_to_score(prompt)
    request = GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        max_tokens=len(tokens),
        model=start.adapter or session.served_model_name,
        deadline_s=session.scenario.deadlines.answer,
        cache_salt=salt,
        top_logprobs=session.scenario.sampling.logprobs,
    )
    return _weighed(await force(session.connection.http, request, tokens), tokens, session, prompt, start)


def _weighed(
    scoring: Scoring,
    tokens: tuple[int, ...],
    session: Session,
    prompt: Prompt,
    start: PassStarted,
    *,
    first: int = 0,
) -> Answer:
    """The answer that consists of given tokens, whose rows begin with the one called ``first``."""
    if scoring.error is not None:
        return _failed(scoring, session, prompt, start)
    return Answer(
        t=session.recorder.now(),
        pass_number=start.number,
        prompt=prompt.id,
        token_ids=tokens,
        cached_tokens=scoring.cached_tokens,
        system_fingerprint=scoring.system_fingerprint,
        logprobs=Logprobs.pack(
            chosen=scoring.chosen_logprobs[first:],
            top_ids=scoring.top_ids[first:],
            top_values=scoring.top_logprobs[first:],
        ),
        seconds=scoring.seconds,
    )


def _failed(result: Generation | Scoring, session: Session, prompt: Prompt, start: PassStarted) -> Answer:
    return Answer(
        t=session.recorder.now(),
        pass_number=start.number,
        prompt=prompt.id,
        seconds=result.seconds,
        failure=failure_of(result.error),
    )


def _without_answer(
    failure: CallFailure, session: Session, prompt: Prompt, start: PassStarted, *, since: float
) -> Answer:
    now = session.recorder.now()
    return Answer(t=now, pass_number=start.number, prompt=prompt.id, seconds=now - since, failure=failure)


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
