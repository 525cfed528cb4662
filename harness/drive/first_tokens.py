"""Times how long a request that is alone waits for its first token: what reading its prompt takes.

Among many requests a first token waits for the prompts of the others, which hides a slow reading of each.
"""

from __future__ import annotations

import secrets

from harness.drive.machine_load import machine_seen
from harness.drive.session import Session
from harness.history.events import FirstTokensTimed
from harness.vllm_api.generation import GenerationRequest, generate
from harness.vllm_api.versions import Feature

TIMES = 3
"""How often it is asked: the first time an engine may still prepare for a request of this size."""


async def time_first_tokens(session: Session) -> None:
    """Ask for one token of the shortest prompt, each time under a fresh cache salt, and record the times.

    Nothing is recorded where a request has no answer, or where it might be served from the prefix cache; and
    an engine that has just left a question unanswered is not asked.
    """
    prompts = [each for each in session.prompts if not each.held_out and each.picture is None]
    served_from_cache = session.caches_prompts and session.lacks(Feature.CACHE_SALT)
    if not (prompts and session.answers and session.base_model) or served_from_cache:
        return
    prompt = min(prompts, key=lambda each: len(each.token_ids))
    seconds: list[float] = []
    async with machine_seen(session):
        for _ in range(TIMES):
            request = GenerationRequest(
                prompt_token_ids=prompt.token_ids,
                max_tokens=1,
                model=session.served_model_name,
                deadline_s=session.scenario.deadlines.answer,
                cache_salt=f"{session.salt}-{secrets.token_hex(8)}",
                top_logprobs=1,
            )
            generation = await generate(session.connection.openai, request)
            if generation.error is not None:
                return
            seconds.append(generation.seconds)
        session.recorder.record(
            FirstTokensTimed(
                t=session.recorder.now(), step=session.step, prompt=prompt.id, seconds=tuple(seconds)
            )
        )
