"""Whether a baseline is worth comparing with: an engine that is broken already may come back just as broken.

Damage compared with damage is the same.  So where most answers of the baseline are those of no working model,
nothing is said to be clean.  Small models repeat themselves by nature: what counts is far beyond that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from harness.check.answer_pair import Reply, coverage, find_loop
from harness.check.evidence import Evidence
from harness.check.wording import counted
from harness.history.passes import Method

LEAST_TOKENS = 8
"""A shorter answer may well be a repetition, or the same as another."""

LEAST_PROMPTS = 3

MOST_PERIOD = 2
"""Tokens: "!!!!" and the like, where sound prose loops over phrases."""

COVERED = 0.9
"""Part of an answer that such a loop makes up."""

BARELY = 1.0
"""nat; a typical token that is likelier than a token drawn blindly by no more than this was not computed."""

_DIFFERENT_PROMPTS = ", and that the prompts ask for different answers"


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Yield why most answers of the baseline are no answers, each with what to do."""
    replies = _first_replies(evidence)
    if len(replies) < LEAST_PROMPTS:
        return
    for count, what, besides in (
        (_empty(replies), "say nothing", ""),
        (_looping(replies), "repeat one or two tokens over and over", ""),
        (_alike(replies), "are the same for different prompts", _DIFFERENT_PROMPTS),
        (
            _blind(replies, vocabulary=evidence.recording.vocabulary_size),
            "are no likelier than blind guesses",
            "",
        ),
    ):
        if 2 * count > len(replies):
            yield (
                f"the baseline itself is broken: {count} of {counted(len(replies), 'answer')} {what}, before "
                "anything was done to the engine: see that the model answers sensibly first"
                f"{besides}"
            )
            return


def _first_replies(evidence: Evidence) -> tuple[Reply, ...]:
    """The first decoded answer to each prompt, of the first baseline."""
    first: dict[str, Reply] = {}
    for reply in evidence.baseline_replies:
        if reply.start.method is Method.GENERATED and reply.start.reference == evidence.first_reference:
            first.setdefault(reply.answer.prompt, reply)
    return tuple(first.values())


def _empty(replies: Sequence[Reply]) -> int:
    return sum(len(reply.answer.token_ids) <= 1 and reply.answer.finish_reason == "stop" for reply in replies)


def _long(replies: Sequence[Reply]) -> Iterator[tuple[int, ...]]:
    """The tokens of those that are long enough to tell."""
    for reply in replies:
        if len(reply.answer.token_ids) >= LEAST_TOKENS:
            yield reply.answer.token_ids


def _looping(replies: Sequence[Reply]) -> int:
    loops = ((find_loop(tokens), len(tokens)) for tokens in _long(replies))
    return sum(
        loop is not None and loop.period <= MOST_PERIOD and coverage(loop, tokens) >= COVERED
        for loop, tokens in loops
    )


def _alike(replies: Sequence[Reply]) -> int:
    return max(Counter(_long(replies)).values(), default=0)


def _blind(replies: Sequence[Reply], *, vocabulary: int | None) -> int:
    if vocabulary is None:
        return 0
    limit = BARELY - np.log(vocabulary)
    rows = (reply.answer.logprobs.chosen for reply in replies if reply.answer.logprobs is not None)
    return sum(len(row) > 0 and bool(np.median(row) <= limit) for row in rows)
