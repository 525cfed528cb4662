"""The one example that shows a reader best what happened."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.check.answer_pair import AnswerPair, Reply, gap_at
from harness.check.evidence import Evidence
from harness.check.result import Finding, Side, TokenChoice, Witness
from harness.check.wording import condition

CONFIDENT = 1.0
"""nat; a baseline this sure of a token took it with more than twice the next one's probability."""


def choose(evidence: Evidence, *, damaged: Sequence[AnswerPair], proofs: Sequence[Finding]) -> Witness | None:
    """Choose the clearest of the ``damaged`` answers: an early difference where the baseline was sure.

    Where no answer differs (none came back, or what is wrong is not in its tokens), the
    first answer that one of ``proofs`` is about is the witness.
    """
    if damaged:
        return _of_pair(min(damaged, key=_obscurity))
    accused = {(finding.pass_number, finding.prompt) for finding in proofs}
    for reply in evidence.after_replies:
        reference = evidence.reference_for(reply)
        if reference and (reply.start.number, reply.answer.prompt) in accused:
            text = evidence.recording.prompts[reply.answer.prompt].text
            return _side_by_side(text, reference, reply, position=0)
    return None


def _obscurity(pair: AnswerPair) -> tuple[bool, bool, int, float]:
    """Least for what a reader sees at once; tokens that were only scored read the same before and after."""
    gap = pair.gap or 0.0
    position = pair.first_difference
    return (position is None, gap < CONFIDENT, position or 0, -gap)


def _of_pair(pair: AnswerPair) -> Witness:
    position = pair.first_difference
    if position is None:
        position = pair.first_logprob_difference or 0
    return _side_by_side(pair.prompt.text, pair.reference, pair.reply, position=position)


def _side_by_side(prompt_text: str, reference: Reply, reply: Reply, *, position: int) -> Witness:
    return Witness(
        prompt=reply.answer.prompt,
        prompt_text=prompt_text,
        baseline=_side(reference, position),
        after=_side(reply, position),
        first_difference=position,
        baseline_gap=gap_at(reference.answer, position),
    )


def _side(reply: Reply, position: int) -> Side:
    answer = reply.answer
    return Side(
        pass_number=reply.start.number,
        condition=condition(reply),
        text=answer.text,
        token_ids=answer.token_ids,
        finish_reason=answer.finish_reason,
        cached_tokens=answer.cached_tokens,
        likeliest=_likeliest(reply, position),
    )


def _likeliest(reply: Reply, position: int) -> tuple[TokenChoice, ...]:
    logprobs = reply.answer.logprobs
    if logprobs is None or position >= len(logprobs.chosen):
        return ()
    return tuple(
        TokenChoice(token_id=int(token), logprob=float(value))
        for token, value in zip(logprobs.top_ids[position], logprobs.top_values[position], strict=True)
        if token >= 0 and np.isfinite(value)
    )
