"""Control questions, asked once a cell when answers differ: they decide the cause, never the text.

Order matters.  A fresh salt, unseen prompts and the base model change nothing in the engine, so they are
asked first; forgetting the prefix cache comes next, then what was kept of pictures; loading the weights
heals the most and comes last, unless answers computed anew show that they are right.

Before each of them that may heal, a handful of the damaged prompts is asked again as it was
(:mod:`harness.drive.asking_again`): what is right by then was not healed by what follows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from harness.drive.asking_again import AskedAgain, asked_again
from harness.drive.conditions import Condition
from harness.drive.probing import ask_unseen_prompts, run_pass, suspects_among
from harness.drive.session import Reference, Session, Suspect, Target
from harness.drive.token_texts import record_token_texts
from harness.drive.transitions import forget_pictures, reload_loaded_weights, reset_prefix_cache
from harness.history.event_base import UNTIMELY
from harness.history.passes import CacheCondition, Control, Prompt, Role
from harness.vllm_api.versions import Feature

PROBE = "control"

_AskDamaged: TypeAlias = Callable[[Control, CacheCondition], Awaitable[bool]]
"""Asks the damaged prompts again; tells whether all answers are the baseline's."""

CONTROL_ANSWER_S = 60.0
"""How long a request is waited for, at the most, that follows some without an answer."""


async def ask_controls(
    session: Session, suspects: Sequence[Suspect], *, target: Target, concurrency: int
) -> None:
    """Ask every control question about the prompts of ``suspects``; only the first time in a cell.

    Args:
        session: The cell.
        suspects: Answers of one probe.
        target: What that probe asked; the controls ask the same.
        concurrency: At which the probe asked what it asks once.
    """
    if session.controls_asked or not suspects or not await session.calls_for_controls():
        return
    session.controls_asked = True
    if _nobody_was_answered(suspects):
        # An engine that does not answer at all would let every control wait for its deadline.
        await _ask_whether_it_answers(session, suspects, target=target)
        return
    ids = {suspect.after.prompt for suspect in suspects}
    damaged = [prompt for prompt in session.prompts if prompt.id in ids]

    async def ask_damaged(control: Control, cache: CacheCondition, target: Target = target) -> bool:
        """Ask them again; return whether all are as in the baseline."""
        condition = Condition(cache=cache, concurrency=concurrency)
        return await _ask(session, damaged, control, condition=condition, target=target)

    damage = asked_again(session, suspects, target=target)
    await damage.is_still_there_at_first()
    await record_token_texts(session, suspects)
    await session.record_weight_checksums(target.reference)
    computes_rightly = not session.lacks(Feature.CACHE_SALT) and await ask_damaged(
        Control.FRESH_SALT, CacheCondition.COLD
    )
    if "unseen" in session.scenario.all_evidence:
        await ask_unseen_prompts(
            session, role=Role.CONTROL, probe=PROBE, target=target, concurrency=concurrency
        )
    if target.adapter is not None and (base_model := session.base_model) is not None:
        await ask_damaged(Control.BASE_MODEL, CacheCondition.COLD, base_model)
    if not session.is_passive:
        with_pictures = any(prompt.picture for prompt in damaged)
        await _heal(
            session,
            damage,
            ask_damaged,
            computes_rightly=computes_rightly,
            with_pictures=with_pictures,
            reference=target.reference,
        )


async def _heal(
    session: Session,
    damage: AskedAgain,
    ask_damaged: _AskDamaged,
    *,
    computes_rightly: bool,
    with_pictures: bool,
    reference: Reference,
) -> None:
    """Mend one thing after the other in the engine, and see what helps; the least comes first."""
    await damage.is_still_there()
    right_by_now = not await reset_prefix_cache(session) and await ask_damaged(
        Control.RESET_PREFIX_CACHE, CacheCondition.WARM
    )
    if computes_rightly:
        return  # so the weights are right: loading them again could heal nothing more
    if with_pictures and await _forgetting_pictures_heals(session, damage, ask_damaged):
        return
    if not await damage.is_still_there() and right_by_now:
        return  # so there is nothing left to heal
    if not await reload_loaded_weights(session):
        await session.record_weight_checksums(reference)
        await ask_damaged(Control.RELOAD_WEIGHTS, CacheCondition.COLD)


def _nobody_was_answered(suspects: Sequence[Suspect]) -> bool:
    return all(suspect.after.failure and suspect.after.failure.kind in UNTIMELY for suspect in suspects)


async def _forgetting_pictures_heals(session: Session, damage: AskedAgain, ask_damaged: _AskDamaged) -> bool:
    await damage.is_still_there()
    forgotten = not await forget_pictures(session)
    return forgotten and await ask_damaged(Control.RESET_ENCODER_CACHE, CacheCondition.COLD)


async def _ask(
    session: Session, prompts: Sequence[Prompt], control: Control, *, condition: Condition, target: Target
) -> bool:
    answers = await run_pass(
        session,
        prompts,
        probe=PROBE,
        role=Role.CONTROL,
        condition=condition,
        target=target,
        control=control,
    )
    return not list(suspects_among(answers, target.reference, condition))


async def _ask_whether_it_answers(session: Session, suspects: Sequence[Suspect], *, target: Target) -> None:
    """Send one request that was late once more, and one that was not; the latter also where the engine hangs.

    Neither is a retry: what was not answered stays unanswered.
    """
    deadlines = session.scenario.deadlines
    patience = deadlines.model_copy(update={"answer": min(deadlines.answer, CONTROL_ANSWER_S)})
    session = replace(session, scenario=session.scenario.model_copy(update={"deadlines": patience}))
    late = {suspect.after.prompt for suspect in suspects}
    others = [prompt for prompt in session.prompts if prompt.id not in late]
    same = next(prompt for prompt in session.prompts if prompt.id in late)
    kinds = {suspect.after.failure.kind for suspect in suspects if suspect.after.failure}
    questions = [
        *([] if "hang" in kinds else [(Control.SAME_AGAIN, same)]),
        *((Control.CANARY, other) for other in others[:1]),
    ]
    for control, prompt in questions:
        await run_pass(
            session,
            [prompt],
            probe=PROBE,
            role=Role.CONTROL,
            condition=Condition(cache=CacheCondition.COLD, concurrency=1),
            target=target,
            control=control,
        )
