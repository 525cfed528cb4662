"""Asks damaged prompts once more, exactly as they were asked: is the damage still there?

A control that heals proves nothing about damage that had gone by itself.  So a handful is asked again before
each control that may heal, under the conditions of the clearest damage.  If it comes out right in so small a
pass, the whole pass is asked again once: some damage shows only beside many others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.drive.conditions import Condition
from harness.drive.probing import run_pass, suspects_among
from harness.drive.session import Session, Suspect, Target
from harness.history.passes import Control, Method, Prompt, Role

A_HANDFUL = 4
"""Prompts that are asked again: enough to tell what stays from what comes and goes."""

PLAIN = 1.0
"""nat; from here on an answer is off by more than noise usually is, so that its healing by itself tells."""


@dataclass(frozen=True, kw_only=True)
class AskedAgain:
    """What is asked again before a control, and how."""

    session: Session
    target: Target
    condition: Condition
    prompts: tuple[Prompt, ...]
    plainly_off: bool
    """Whether the clearest damage can be told from noise at a glance."""

    async def is_still_there(self) -> bool:
        """Ask the handful; return whether any answer is not the baseline's."""
        return bool(await self._suspects(self.prompts))

    async def is_still_there_at_first(self) -> bool:
        """The same, and in the company of all other prompts, if the handful comes out right."""
        again = await self._suspects(self.prompts)
        everyone = [prompt for prompt in self.session.prompts if not prompt.held_out]
        alone = len(everyone) == len(self.prompts)
        if alone or any(self._tells(suspect) for suspect in again):
            return bool(again)
        return bool(again + await self._suspects(everyone))

    def _tells(self, suspect: Suspect) -> bool:
        return clearness(suspect) >= PLAIN / 2 if self.plainly_off else True

    async def _suspects(self, prompts: Sequence[Prompt]) -> list[Suspect]:
        answers = await run_pass(
            self.session,
            prompts,
            probe="control",
            role=Role.CONTROL,
            condition=self.condition,
            target=self.target,
            control=Control.ASKED_AGAIN,
        )
        return list(suspects_among(answers, self.target.reference, self.condition))


def asked_again(session: Session, suspects: Sequence[Suspect], *, target: Target) -> AskedAgain:
    """Choose the handful whose damage is clearest, under the condition of the clearest."""
    ranked = sorted(suspects, key=_telling, reverse=True)
    condition = ranked[0].condition
    ids = [suspect.after.prompt for suspect in ranked if suspect.condition == condition][:A_HANDFUL]
    return AskedAgain(
        session=session,
        target=target,
        condition=condition,
        prompts=tuple(prompt for prompt in session.prompts if prompt.id in ids),
        plainly_off=clearness(ranked[0]) >= PLAIN,
    )


def _telling(suspect: Suspect) -> tuple[bool, float]:
    """Controls decode, so decoded answers are told of first."""
    return suspect.condition.method is Method.GENERATED, clearness(suspect)


def clearness(suspect: Suspect) -> float:
    """How far the answer is from the baseline's, nat: how sure that was where the two part.

    0 for an answer without log-probabilities, less for none at all: it may be as late the next time.
    """
    before, after = suspect.before, suspect.after
    if after.failure is not None:
        return -1.0
    if before.logprobs is None or after.logprobs is None:
        return 0.0
    pairs = zip(before.token_ids, after.token_ids, strict=False)
    parting = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    with np.errstate(invalid="ignore"):
        if parting is None:
            shared = min(len(before.logprobs.chosen), len(after.logprobs.chosen))
            off = np.abs(before.logprobs.chosen[:shared] - after.logprobs.chosen[:shared])
        else:
            off = before.logprobs.top_values[parting, :1] - before.logprobs.top_values[parting, 1:2]
    return float(np.max(off, initial=0.0, where=np.isfinite(off)))
