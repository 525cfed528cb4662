"""Answers by chance: a seed with temperature, top-k, top-p and min-p, and several answers at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.history.kinds import KindAnswer
from harness.kinds.kind import Kind, Question, Setting, choices, greedy

CAUSE = "scheduler or protocol"

_TOP_K = 3
_SEVERAL, _CANDIDATES = 16, 5


def _ask_with_seed(_: Setting) -> Sequence[Question]:
    sampling = {"temperature": 1.0, "top_k": _TOP_K, "top_p": 0.95, "min_p": 0.02, "seed": 7}
    return (Question(body=greedy(**sampling, logprobs=_TOP_K + 2)),)


def _among_the_likeliest(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for choice in choices(answers):
        worst = max(choice.ranks, default=0)
        if worst > _TOP_K:
            yield f"a token of rank {worst} came although only the {_TOP_K} likeliest may"


def _ask_for_several(_: Setting) -> Sequence[Question]:
    drawn = {"n": _SEVERAL, "max_tokens": 1, "temperature": 1.0, "seed": 11}
    return (Question(body=greedy(**drawn, top_k=_CANDIDATES, logprobs=_CANDIDATES)),)


def _not_all_equal(answers: Sequence[KindAnswer]) -> Iterator[str]:
    for answer in answers:
        if len({choice.token_ids for choice in answer.choices}) == 1:
            yield f"all {len(answer.choices)} sampled answers are the same"


SEEDED = Kind(
    name="seeded",
    summary="a seed with temperature, top-k, top-p and min-p: no token beyond top-k",
    cause=CAUSE,
    ask=_ask_with_seed,
    oracle=_among_the_likeliest,
)
SEVERAL = Kind(
    name="several",
    summary="sixteen sampled tokens to one request: not all the same, and drawn as before",
    cause=CAUSE,
    ask=_ask_for_several,
    oracle=_not_all_equal,
    drawn=True,
)
