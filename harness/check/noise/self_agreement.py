"""Whether an engine that nothing was done to agrees with itself.

Some conditions must make no difference: whether a prompt is read from the prefix cache or computed, asked
alone or beside others, under a salt used before or a new one, and whether its answer is decoded or scored.
Where answers differ between two of them by more than noise, the baseline does not tell which is right, and
sleep is not to blame.

Other conditions round otherwise.  So a single answer counts only where it lies as far off as damage on its
own does (:data:`~harness.check.noise.limits.GROSS`), and answers together only where they typically do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from harness.check.answer_pair import Reply
from harness.check.noise import limits
from harness.check.noise.budget import OF_ONE_CELL, ErrorBudget, Family
from harness.check.noise.distance import Track, measure
from harness.check.noise.exact_tests import rank_test
from harness.check.noise.null_answers import NullAnswers, Pool, Row, resolution_of
from harness.check.noise.pass_tests import JudgedPass
from harness.check.wording import counted, occasion
from harness.history.passes import Method

TESTS_OF_A_QUESTION = 2
"""One of single answers, and one of all of them together."""

LEAST_ODD = 2
"""Answers that must disagree, where there are so many: one may be a hiccup that never comes again."""

_COARSE = 0.125
"""nat; what bf16 rounds logits between 16 and 32 to, taken where scaled or capped logits hide the step."""

_GIVEN = frozenset({Method.SCORED, Method.FORCED})
"""Methods whose tokens are those of a decoded answer."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Two conditions under which the engine does not answer alike."""

    one: str
    other: str
    prompts: int
    """How many are answered otherwise."""
    asked: int
    """How many were asked under both."""
    example: str
    remedy: str

    @property
    def sentence(self) -> str:
        """What disagrees, by how much, and what would narrow it down."""
        return (
            f"the engine disagreed with itself before anything was done to it: {self.prompts} of "
            f"{counted(self.asked, 'prompt')} {'is' if self.prompts == 1 else 'are'} answered differently "
            f"{self.one} than {self.other} ({self.example}): {self.remedy}"
        )


@dataclass(frozen=True, kw_only=True)
class _Condition:
    """Under which an answer came to be."""

    method: Method
    concurrency: int
    cached: bool
    new_salt: bool


_Answers: TypeAlias = Mapping[tuple[str, str | None], Mapping[_Condition, Sequence[Track]]]
"""By prompt and baseline, then by condition."""


@dataclass(frozen=True, kw_only=True)
class _Question:
    """Two kinds of condition that must make no difference."""

    one: str
    other: str
    is_one: Callable[[_Condition], bool]
    is_other: Callable[[_Condition], bool]
    remedy: str


def disagreements(
    answers: NullAnswers,
    replies: Iterable[Reply],
    *,
    coarse: bool,
    quantised_kv_cache: bool,
    budget: ErrorBudget = OF_ONE_CELL,
) -> tuple[Disagreement, ...]:
    """Every two conditions under which the answers of an untouched engine differ by more than noise.

    Args:
        answers: Say how answers came to be.
        replies: Those of the baseline and of null transitions, from before the first transition.
        coarse: Whether the engine is known to compute coarsely, though logits may not show it.
        quantised_kv_cache: Whether keys and values are stored in fewer bits than they are computed in.  Then
            some attention kernels compute a prompt from the exact ones, and read rounded ones from the cache.
        budget: Its part for these questions is shared by all of them.
    """
    by_prompt = _by_prompt(answers, replies)
    resolution = max(resolution_of(answers.pools.values()), limits.resolution(_COARSE if coarse else 0.0))
    questions = [
        question
        for question in _questions(by_prompt)
        if not (quantised_kv_cache and question.one == _FROM_CACHE)
    ]
    alpha = budget.alpha(Family.AGREEMENT, series=TESTS_OF_A_QUESTION * len(questions))
    found = (_ask(question, by_prompt, resolution=resolution, alpha=alpha) for question in questions)
    return tuple(each for each in found if each is not None)


_FROM_CACHE = "when read from the prefix cache"


def _questions(by_prompt: _Answers) -> Iterator[_Question]:
    conditions = {condition for answers in by_prompt.values() for condition in answers}
    for concurrency in sorted({each.concurrency for each in conditions}):
        yield from _questions_at(concurrency)
    yield from _questions_across({each.concurrency for each in conditions if each.method is Method.GENERATED})


def _questions_across(concurrencies: Collection[int]) -> Iterator[_Question]:
    least = min(concurrencies, default=1)
    for concurrency in sorted(set(concurrencies) - {least}):
        yield _Question(
            one=_at_a_time(concurrency),
            other=_at_a_time(least),
            is_one=_decoded(concurrency, cached=False),
            is_other=_decoded(least, cached=False),
            remedy=f"ask {_at_a_time(least)}",
        )


def _questions_at(concurrency: int) -> Iterator[_Question]:
    computed = _decoded(concurrency, cached=False)
    yield _Question(
        one=_FROM_CACHE,
        other="when computed",
        is_one=_decoded(concurrency, cached=True),
        is_other=computed,
        remedy="try --no-enable-prefix-caching",
    )
    yield _Question(
        one="under a new cache salt",
        other="under the cell's own",
        is_one=lambda each: computed(each) and each.new_salt,
        is_other=lambda each: computed(each) and not each.new_salt,
        remedy="try a null_transition of 4 passes, which shows whether it comes and goes",
    )
    for method in Method:
        if method in _GIVEN:
            yield _Question(
                one=f"when {method.value}",
                other="when decoded",
                is_one=_given(method, concurrency),
                is_other=computed,
                remedy="try --enforce-eager",
            )


def _decoded(concurrency: int, *, cached: bool) -> Callable[[_Condition], bool]:
    return lambda each: (
        (each.method, each.concurrency, each.cached)
        == (
            Method.GENERATED,
            concurrency,
            cached,
        )
    )


def _given(method: Method, concurrency: int) -> Callable[[_Condition], bool]:
    return lambda each: (each.method, each.concurrency) == (method, concurrency)


def _at_a_time(concurrency: int) -> str:
    return "one at a time" if concurrency == 1 else f"{concurrency} at a time"


def _by_prompt(answers: NullAnswers, replies: Iterable[Reply]) -> _Answers:
    found: dict[tuple[str, str | None], dict[_Condition, list[Track]]] = {}
    for reply in replies:
        if reply.answer.failure is None and reply.start.method is not Method.SAMPLED:
            start = reply.start
            condition = _Condition(
                method=start.method,
                concurrency=start.concurrency,
                cached=answers.from_cache(reply),
                new_salt=not reply.shares_salt,
            )
            of_prompt = found.setdefault((reply.answer.prompt, start.reference), {})
            of_prompt.setdefault(condition, []).append(Track(reply))
    return found


def _ask(question: _Question, by_prompt: _Answers, *, resolution: float, alpha: float) -> Disagreement | None:
    rows: list[Row] = []
    null: list[float] = []
    for answers in by_prompt.values():
        one = _that(question.is_one, answers)
        other = _that(question.is_other, answers)
        if one and other:
            pool = Pool(null=other)
            null += [each.furthest for each in (*pool.distances, *Pool(null=one).distances)]
            rows += [Row(track=track, distance=measure(track, other), pool=pool) for track in one]
    limit = limits.gross_limit(null, judged=max(1, len(rows)), resolution=resolution, alpha=alpha)
    odd = [row for row in rows if row.distance.furthest > limit]
    if len(odd) < min(LEAST_ODD, len(rows)):
        odd = _odd_together(rows, resolution=resolution, alpha=alpha)
    return _disagreement(question, rows, odd, limit=limit) if odd else None


def _that(
    belongs: Callable[[_Condition], bool], answers: Mapping[_Condition, Sequence[Track]]
) -> tuple[Track, ...]:
    return tuple(track for condition, tracks in answers.items() if belongs(condition) for track in tracks)


def _odd_together(rows: Sequence[Row], *, resolution: float, alpha: float) -> list[Row]:
    """The answers to tell of where all typically lie far off, though none does by itself."""
    firsts = {row.track.reply.answer.prompt: row for row in reversed(rows)}
    testable = [row for row in firsts.values() if len(row.pool.null) >= limits.LEAST_NULL_ANSWERS]
    if not testable:
        return []
    scores = JudgedPass(
        start=testable[0].track.reply.start,
        rows=tuple(testable),
        null=min(len(row.pool.null) for row in testable),
        resolution=resolution,
    ).distances(lambda each: each.typical)
    together = (
        limits.typical_ratio(scores, resolution=resolution) > limits.GROSS
        and rank_test(scores).higher <= alpha
    )
    return [row for row in testable if row.exceeds] if together else []


def _disagreement(
    question: _Question, rows: Sequence[Row], odd: Sequence[Row], *, limit: float
) -> Disagreement:
    worst = max(odd, key=lambda row: row.distance.furthest)
    reply, off = worst.track.reply, worst.distance
    how_far = f"lies {off.furthest:.3g} nat off" if np.isfinite(off.furthest) else "is another"
    return Disagreement(
        one=question.one,
        other=question.other,
        prompts=len({row.track.reply.answer.prompt for row in odd}),
        asked=len({row.track.reply.answer.prompt for row in rows}),
        example=(
            f"{reply.answer.prompt}, {occasion(reply.start)}: token {off.furthest_at} {how_far}; "
            f"{limit:.2g} is the most that noise explains"
        ),
        remedy=question.remedy,
    )
