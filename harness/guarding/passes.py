"""Sends all canaries at once and records every answer, and the checksums of weights where they are wanted."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Container, Mapping

import numpy as np

from harness.drive.recorder import Recorder
from harness.guarding.asking import LIKELIEST, Holder, generate, weight_checksums
from harness.guarding.messages import Answered, Engine
from harness.history.observations import WeightChecksums
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, CacheCondition, Control, PassStarted, Prompt, Role

BASELINE = "baseline"
"""The name of the probe that all others are held against."""


class Asker:
    """Asks the canaries; a batch is always the same, so that it is computed in the same shapes.

    Args:
        holder: Holds the engines.
        canaries: What is asked.
        max_tokens: How long an answer may be.
        takes_salt: Whether prompts of this release have a cache salt.
    """

    def __init__(
        self, holder: Holder, canaries: tuple[Prompt, ...], *, max_tokens: int, takes_salt: bool
    ) -> None:
        self.canaries = canaries
        self.max_tokens = max_tokens
        self.takes_salt = takes_salt
        self.generated = 0
        """How many tokens the engines generated so far."""
        self.passes = 0
        self._holder = holder

    @property
    def tokens_of_a_pass(self) -> int:
        """The most that one pass generates."""
        return len(self.canaries) * self.max_tokens

    def ask(
        self,
        recorder: Recorder,
        *,
        step: str,
        role: Role,
        cache: CacheCondition,
        salt: str,
        control: Control | None = None,
        about: Container[str] | None = None,
        of: Engine = "guarded",
    ) -> None:
        """Ask once, and record what comes back.

        Args:
            recorder: Takes it.
            step: The step it belongs to.
            role: What it is evidence of.
            cache: Whether the salt was used before.
            salt: Keeps what is cached of it apart from everybody else's.
            control: The question it answers, for a control.
            about: The prompts that a control is about; the others keep them company and are not recorded.
            of: Whom it asks.

        Raises:
            EngineFailedError: the engine raised instead of answering.
        """
        recorded = [each for each in self.canaries if about is None or each.id in about]
        start = PassStarted(
            t=recorder.now(),
            number=recorder.next_pass_number(),
            step=step,
            probe=BASELINE if role is Role.BASELINE else role.value,
            role=role,
            cache=cache,
            concurrency=len(self.canaries),
            cycle=0,
            control=control,
            reference=BASELINE,
            asked=tuple(prompt.id for prompt in recorded),
        )
        recorder.record(start)
        generated = generate(
            self._holder,
            [prompt.token_ids for prompt in self.canaries],
            salt=salt if self.takes_salt else None,
            max_tokens=self.max_tokens,
            of=of,
        )
        self.generated += sum(len(each.token_ids) for each in generated.answers)
        self.passes += 1
        for prompt, answered in zip(self.canaries, generated.answers, strict=True):
            if prompt in recorded:
                recorder.record(
                    _answer(
                        answered, prompt, number=start.number, t=recorder.now(), seconds=generated.seconds
                    )
                )

    def look_at_weights(
        self,
        recorder: Recorder,
        *,
        step: str,
        of: Engine = "guarded",
        names: Collection[str] | None = None,
    ) -> None:
        """Record the checksum of every parameter.

        Args:
            recorder: Takes them.
            step: The step they belong to.
            of: Whom it asks.
            names: What the parameters were called when the baseline was taken.  Those of an engine that is
                built otherwise, and calls them otherwise, cannot be compared, and are not recorded.

        Raises:
            EngineFailedError: whoever holds the engine is gone.
        """
        told = weight_checksums(self._holder, of=of)
        if told is not None and names is not None and told.keys() != set(names):
            told = None
        self.record_weights(recorder, told, step=step)

    @staticmethod
    def record_weights(recorder: Recorder, told: Mapping[str, str] | None, *, step: str) -> None:
        """Record checksums that were read before, or that none were told."""
        recorder.record(WeightChecksums(t=recorder.now(), step=step, reference=BASELINE, checksums=told))


def fresh_salt() -> str:
    """One that was never used: nothing that anybody has cached can be read under it."""
    return f"sleepwake-{secrets.token_hex(16)}"


def _answer(answered: Answered, prompt: Prompt, *, number: int, t: float, seconds: float) -> Answer:
    return Answer(
        t=t,
        pass_number=number,
        prompt=prompt.id,
        token_ids=answered.token_ids,
        text=answered.text,
        finish_reason=answered.finish_reason,
        stop_reason=answered.stop_reason,
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=len(answered.token_ids),
        cached_tokens=answered.cached_tokens,
        logprobs=_packed(answered),
        seconds=seconds,
    )


def _packed(answered: Answered) -> Logprobs:
    shape = (len(answered.chosen), LIKELIEST)
    ids = np.full(shape, -1, dtype=np.int32)
    values = np.full(shape, -np.inf, dtype=np.float32)
    for row, candidates in enumerate(answered.top):
        for column, (token, logprob) in enumerate(candidates[:LIKELIEST]):
            ids[row, column], values[row, column] = token, logprob
    return Logprobs.pack(chosen=np.array(answered.chosen, dtype=np.float32), top_ids=ids, top_values=values)
