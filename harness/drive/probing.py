"""Sends prompts under named conditions and records what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import anyio

from harness.drive.session import Session, Suspect, failure_of
from harness.history.events import (
    Answer,
    CacheCondition,
    Control,
    Logprobs,
    PassStarted,
    Prompt,
    Role,
)
from harness.scenario.schema import ProbeOptions
from harness.vllm_api import lifecycle
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from harness.vllm_api.versions import Feature

BASELINE_CACHES = (CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD)
"""The first warm pass fills the cache and so is computed cold; the re-hit shows a cached read."""
LATER_CACHES = (CacheCondition.WARM, CacheCondition.COLD)


async def run_probe(session: Session, options: ProbeOptions) -> list[Suspect]:
    """Run every pass of a probe; return the answers whose tokens differ from the baseline's.

    The first probe of a cell is its baseline; one after a transition is judged against it; one
    with nothing in between measures noise.
    """
    role = _role(session)
    named = tuple(CacheCondition(cache) for cache in options.caches or ())
    default = BASELINE_CACHES if role is Role.BASELINE else LATER_CACHES
    concurrency = options.concurrency or session.scenario.concurrency
    await session.observe("before")
    suspects = await run_passes(
        session, probe=options.name, role=role, caches=named or default, concurrency=concurrency
    )
    if role is Role.BASELINE:
        await ask_unseen_prompts(session, role=role, probe=options.name, concurrency=concurrency)
    await session.observe("after")
    return suspects


async def run_passes(
    session: Session,
    *,
    probe: str,
    role: Role,
    caches: Sequence[CacheCondition],
    concurrency: int,
) -> list[Suspect]:
    """Send the prompts once under each cache condition; return the answers that differ."""
    suspects: list[Suspect] = []
    asked = [prompt for prompt in session.prompts if not prompt.held_out]
    for cache in caches:
        answers = await run_pass(session, asked, probe=probe, role=role, cache=cache, concurrency=concurrency)
        if role is Role.BASELINE:
            session.baseline[cache] = {answer.prompt: answer for answer in answers}
        else:
            suspects.extend(_differing(session, cache, answers))
    return suspects


async def ask_unseen_prompts(session: Session, *, role: Role, probe: str, concurrency: int) -> None:
    """Send the held-out prompts by themselves: a pass of another size would round differently."""
    unseen = [prompt for prompt in session.prompts if prompt.held_out]
    if unseen:
        await run_pass(
            session,
            unseen,
            probe=probe,
            role=role,
            cache=CacheCondition.COLD,
            concurrency=concurrency,
            control=Control.UNSEEN_PROMPTS if role is Role.CONTROL else None,
        )


async def run_pass(
    session: Session,
    prompts: Sequence[Prompt],
    *,
    probe: str,
    role: Role,
    cache: CacheCondition,
    concurrency: int,
    control: Control | None = None,
) -> list[Answer]:
    """Send each of ``prompts`` once, ``concurrency`` at a time, and record every answer as it comes."""
    recorder = session.recorder
    if cache is CacheCondition.COLD and session.lacks(Feature.CACHE_SALT):
        # Without salts only an empty cache makes sure that nothing is read from it.
        deadline = session.scenario.deadlines.transition
        session.call_recorded(
            await lifecycle.reset_prefix_cache(session.connection.http, deadline_s=deadline)
        )
    start = PassStarted(
        t=recorder.now(),
        number=recorder.next_pass_number(),
        step=session.step or "",
        probe=probe,
        role=role,
        cache=cache,
        concurrency=concurrency,
        cycle=session.cycle,
        control=control,
        asked=tuple(prompt.id for prompt in prompts),
    )
    recorder.record(start)
    salt = f"{session.salt}-{start.number}" if cache is CacheCondition.COLD else session.salt
    limiter = anyio.CapacityLimiter(concurrency)
    answers: list[Answer] = []

    async def ask(prompt: Prompt) -> None:
        async with limiter:
            generation = await generate(session.connection.openai, _request(session, prompt, salt))
        answer = _answer(generation, prompt=prompt.id, pass_number=start.number, t=recorder.now())
        recorder.record(answer)
        answers.append(answer)

    async with anyio.create_task_group() as group:
        for prompt in prompts:
            group.start_soon(ask, prompt)
    return answers


def _role(session: Session) -> Role:
    if not session.baseline:
        return Role.BASELINE
    return Role.AFTER if session.transitions else Role.NULL


def _request(session: Session, prompt: Prompt, salt: str) -> GenerationRequest:
    sampling = session.scenario.sampling
    return GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        max_tokens=sampling.max_tokens,
        model=session.served_model_name,
        deadline_s=session.scenario.deadlines.answer,
        temperature=sampling.temperature,
        seed=sampling.seed,
        cache_salt=salt,
        top_logprobs=sampling.logprobs,
    )


def _answer(generation: Generation, *, prompt: str, pass_number: int, t: float) -> Answer:
    if generation.error is not None:
        return Answer(
            t=t,
            pass_number=pass_number,
            prompt=prompt,
            seconds=generation.seconds,
            failure=failure_of(generation.error),
        )
    return Answer(
        t=t,
        pass_number=pass_number,
        prompt=prompt,
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


def _differing(session: Session, cache: CacheCondition, answers: Iterable[Answer]) -> Iterator[Suspect]:
    baseline = session.baseline.get(cache) or next(iter(session.baseline.values()), {})
    for answer in answers:
        before = baseline.get(answer.prompt)
        if before is not None and (answer.token_ids, answer.failure) != (before.token_ids, before.failure):
            yield Suspect(before=before, after=answer)
