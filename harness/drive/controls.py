"""Control questions, asked once a cell when answers differ: they decide the cause, never the text.

Order matters.  A fresh salt and unseen prompts change nothing in the engine, so they are
asked first; forgetting the prefix cache comes next; loading the weights heals the most and
comes last.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.drive import transitions
from harness.drive.conditions import Condition
from harness.drive.probing import ask_unseen_prompts, run_pass
from harness.drive.session import Session, Suspect
from harness.drive.token_texts import record_token_texts
from harness.history.events import CacheCondition, Control, Role
from harness.vllm_api.versions import Feature

PROBE = "control"


async def ask_controls(session: Session, suspects: Sequence[Suspect], *, concurrency: int) -> None:
    """Ask every control question about the prompts of ``suspects``; only the first time in a cell."""
    if session.controls_asked or not suspects:
        return
    session.controls_asked = True
    ids = {suspect.after.prompt for suspect in suspects}
    damaged = [prompt for prompt in session.prompts if prompt.id in ids]

    async def ask_damaged(control: Control, cache: CacheCondition) -> None:
        await run_pass(
            session,
            damaged,
            probe=PROBE,
            role=Role.CONTROL,
            condition=Condition(cache=cache, concurrency=concurrency),
            control=control,
        )

    await record_token_texts(session, suspects)
    await session.record_weight_checksums()
    if not session.lacks(Feature.CACHE_SALT):
        await ask_damaged(Control.FRESH_SALT, CacheCondition.COLD)
    await ask_unseen_prompts(session, role=Role.CONTROL, probe=PROBE, concurrency=concurrency)
    if not await transitions.reset_prefix_cache(session):
        await ask_damaged(Control.RESET_PREFIX_CACHE, CacheCondition.WARM)
    if not await transitions.reload_weights(session):
        await session.record_weight_checksums()
        await ask_damaged(Control.RELOAD_WEIGHTS, CacheCondition.COLD)
