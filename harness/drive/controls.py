"""Control questions, asked once a cell when answers differ: they decide the cause, never the text.

Order matters.  A fresh salt, unseen prompts and the base model change nothing in the engine, so they are
asked first; forgetting the prefix cache comes next, then what was kept of pictures; loading the weights
heals the most and comes last, unless answers computed anew show that they are right.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.drive.conditions import Condition
from harness.drive.probing import ask_unseen_prompts, run_pass, suspects_among
from harness.drive.session import Session, Suspect, Target
from harness.drive.token_texts import record_token_texts
from harness.drive.transitions import forget_pictures, reload_loaded_weights, reset_prefix_cache
from harness.history.events import CacheCondition, Control, Role
from harness.vllm_api.versions import Feature

PROBE = "control"


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
    if session.controls_asked or not suspects:
        return
    session.controls_asked = True
    if all(suspect.after.failure and suspect.after.failure.kind == "timeout" for suspect in suspects):
        return  # an engine that does not answer at all would let every control wait for its deadline
    ids = {suspect.after.prompt for suspect in suspects}
    damaged = [prompt for prompt in session.prompts if prompt.id in ids]

    async def ask_damaged(control: Control, cache: CacheCondition, target: Target = target) -> bool:
        """Ask them again; return whether all are as in the baseline."""
        condition = Condition(cache=cache, concurrency=concurrency)
        answers = await run_pass(
            session,
            damaged,
            probe=PROBE,
            role=Role.CONTROL,
            condition=condition,
            target=target,
            control=control,
        )
        return not list(suspects_among(answers, target.reference, condition))

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
    if not await reset_prefix_cache(session):
        await ask_damaged(Control.RESET_PREFIX_CACHE, CacheCondition.WARM)
    if computes_rightly:
        return  # so the weights are right: loading them again could heal nothing more
    if (
        any(prompt.picture for prompt in damaged)
        and not await forget_pictures(session)
        and await ask_damaged(Control.RESET_ENCODER_CACHE, CacheCondition.COLD)
    ):
        return
    if not await reload_loaded_weights(session):
        await session.record_weight_checksums(target.reference)
        await ask_damaged(Control.RELOAD_WEIGHTS, CacheCondition.COLD)
