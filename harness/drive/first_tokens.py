"""Times how long a request that is alone waits for its first token: what reading its prompt takes.

Among many requests a first token waits for the prompts of the others, which hides a slow reading of each.
"""

from __future__ import annotations

import secrets

from harness.drive.machine_load import machine_seen
from harness.drive.session import Session, failure_of
from harness.history.event_base import CallFailure
from harness.history.events import FirstTokenMissing, FirstTokensTimed
from harness.history.passes import Prompt
from harness.vllm_api.generation import Generation, GenerationRequest, generate
from harness.vllm_api.versions import Feature

TIMES = 3
"""How often it is asked: the first time an engine may still prepare for a request of this size."""


async def time_first_tokens(session: Session) -> None:
    """Ask for one token of the shortest prompt, each time under a fresh cache salt, and record the times.

    Nothing is timed where a request has no answer, which is recorded instead, or where it might be served
    from the prefix cache; and an engine that has just left a question unanswered is not asked.
    """
    prompts = [each for each in session.prompts if not each.held_out and each.picture is None]
    served_from_cache = session.caches_prompts and session.lacks(Feature.CACHE_SALT)
    if not (prompts and session.answers and session.base_model) or served_from_cache:
        return
    prompt = min(prompts, key=lambda each: len(each.token_ids))
    seconds: list[float] = []
    async with machine_seen(session):
        for _ in range(TIMES):
            began = session.recorder.now()
            waited = await _wait(session, prompt)
            if isinstance(waited, CallFailure):
                _record_missing(session, prompt, waited, since=began)
                return
            seconds.append(waited)
        session.recorder.record(
            FirstTokensTimed(
                t=session.recorder.now(), step=session.step, prompt=prompt.id, seconds=tuple(seconds)
            )
        )


def _record_missing(session: Session, prompt: Prompt, failure: CallFailure, *, since: float) -> None:
    session.answers = False
    now = session.recorder.now()
    session.recorder.record(
        FirstTokenMissing(t=now, step=session.step, prompt=prompt.id, seconds=now - since, failure=failure)
    )


async def _wait(session: Session, prompt: Prompt) -> float | CallFailure:
    """Ask once, until the answer is there or the engine is known to hang; how long it took, or why not."""
    request = GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        max_tokens=1,
        model=session.served_model_name,
        deadline_s=session.scenario.deadlines.answer,
        cache_salt=f"{session.salt}-{secrets.token_hex(8)}",
        top_logprobs=1,
    )
    generation: Generation | None = None
    async with session.watched() as watch:
        with watch.unless_it_hangs():
            generation = await generate(session.connection.openai, request)
        if generation is not None and generation.error is None:
            return generation.seconds
        session.record_wait(watch, answers=1)
        return (failure_of(generation.error) if generation else None) or watch.failure
