"""The steps that send requests beside the script and see to their end."""

from __future__ import annotations

import secrets

from harness.drive.in_flight import NO_DEADLINE_S, Asked
from harness.drive.kinds import finish_kinds, start_kinds
from harness.drive.session import Session
from harness.history.passes import Prompt
from harness.scenario.steps.requests import (
    CancelRequests,
    FinishRequests,
    FinishRequestsOptions,
    StartRequests,
    StartRequestsOptions,
)
from harness.vllm_api.generation import GenerationRequest

_ONLY_THE_TOKENS = 1
"""Log-probabilities that are asked for: without any, no token has an id."""


async def run_beside(session: Session, step: StartRequests | FinishRequests | CancelRequests) -> None:
    """Start requests beside the script, or see to their end; whether they ended well is judged later."""
    match step:
        case StartRequests():
            await _start(session, step.start_requests)
        case FinishRequests():
            await _finish(session, step.finish_requests)
        case CancelRequests():
            await session.in_flight.cancel(step.cancel_requests.name)
    # A round trip to the engine: what was sent before has reached it as well.
    await session.observe("after")


async def _finish(session: Session, options: FinishRequestsOptions) -> None:
    """Wait for requests as long as the script says, or until the engine is known to hang."""
    async with session.watched() as watch:
        given_up = await session.in_flight.finish(options.name, within_s=options.within, watch=watch)
        if given_up:
            session.record_wait(watch, answers=given_up)
    reference = session.groups.pop(options.name)
    finish_kinds(session, reference, group=options.name, is_judged=options.expect == "same")


async def _start(session: Session, options: StartRequestsOptions) -> None:
    """Send requests as streams; go on when they run, or where the engine rests when it has them.

    They have a cache salt of their own: what a probe is served from the prefix cache is never
    theirs, nor the other way round.
    """
    prompts = [prompt for prompt in session.prompts if not prompt.held_out][: options.count]
    salt = f"{session.salt}-{secrets.token_hex(8)}"
    model = options.adapter or session.served_model_name
    session.groups[options.name] = session.reference(options.same_as)
    reference = session.groups[options.name].name
    if options.kinds:
        start_kinds(session, session.groups[options.name], group=options.name)
    await session.in_flight.start(
        options.name,
        [
            Asked(
                prompt=prompt.id,
                request=_request(session, prompt, model=model, salt=salt),
                reference=reference,
                adapter=options.adapter,
            )
            for prompt in prompts
        ],
        connection=session.connection,
        recorder=session.recorder,
        step=session.step or "",
        until_running=(options.until or ("sent" if session.state.rests else "running")) == "running",
        patience_s=session.scenario.deadlines.answer,
    )


def _request(session: Session, prompt: Prompt, *, model: str, salt: str) -> GenerationRequest:
    sampling = session.scenario.sampling
    return GenerationRequest(
        prompt_token_ids=prompt.token_ids,
        max_tokens=sampling.max_tokens,
        model=model,
        deadline_s=NO_DEADLINE_S,
        temperature=sampling.temperature,
        seed=sampling.seed,
        cache_salt=salt,
        top_logprobs=_ONLY_THE_TOKENS,
    )
