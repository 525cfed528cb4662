"""Every judged answer beside its baseline, in the shapes the page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.check.answer_pair import AnswerPair, repeated_ngrams
from harness.check.evidence import Evidence
from harness.check.wording import condition, occasion
from harness.history.passes import Answer, Method
from harness.report.witness import Parting, part_texts


@dataclass(frozen=True, kw_only=True)
class Change:
    """One answer that differs from its baseline, however often it came."""

    prompt: str
    occasions: tuple[str, ...]
    first_difference: int
    gap: float | None
    agreement: float
    baseline_condition: str
    after_condition: str
    baseline_finish: str
    after_finish: str
    parting: Parting
    answers: tuple[Answer, Answer]
    """Baseline and after, as they were recorded."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far one answer agrees with its baseline: one field of the heat map."""

    prompt: str
    pass_number: int
    occasion: str
    share: float
    """Of the tokens before the first difference; 1 when all are equal."""
    first_difference: int | None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Length and repetition of one answer, or of its baseline."""

    prompt: str
    side: str
    tokens: int
    repeated: float
    """Fraction of the 4-grams that occurred before."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much a group of answers differs from its baseline: one row of noise against signal."""

    name: str
    compared: int
    different: int | None
    """None for scored answers, whose tokens are the baseline's own."""
    largest_shift: float | None
    largest_gap: float | None


def changes(evidence: Evidence) -> list[Change]:
    """The judged answers whose tokens differ from their baseline, earliest parting first."""
    alike: dict[tuple[str, int, tuple[int, ...]], list[AnswerPair]] = {}
    for each in evidence.after:
        if not each.same_tokens:
            what = (each.prompt.id, each.reference.start.number, each.reply.answer.token_ids)
            alike.setdefault(what, []).append(each)
    return sorted(map(_change, alike.values()), key=lambda change: change.first_difference)


def _change(alike: Sequence[AnswerPair]) -> Change:
    first = alike[0]
    before, after = first.reference.answer, first.reply.answer
    return Change(
        prompt=first.prompt.id,
        occasions=tuple(occasion(each.reply.start) for each in alike),
        first_difference=first.first_difference or 0,
        gap=first.gap,
        agreement=first.agreement,
        baseline_condition=condition(first.reference),
        after_condition=condition(first.reply),
        baseline_finish=before.finish_reason or "none",
        after_finish=after.finish_reason or "none",
        parting=part_texts(before.text, after.text),
        answers=(before, after),
    )


def agreements(evidence: Evidence) -> list[Agreement]:
    """How far every answer agrees with its baseline, null transitions first, then as they were asked.

    Scored and forced answers are left out: their tokens are the baseline's own.
    """
    before_any = [each for each in evidence.null if each.reply.start.role == "null"]
    return [_agreement(each) for each in (*before_any, *evidence.after) if _has_own_tokens(each)]


def _has_own_tokens(comparison: AnswerPair) -> bool:
    return not comparison.reply.start.method.tokens_are_given


def _agreement(comparison: AnswerPair) -> Agreement:
    place = comparison.first_difference
    longer = max(len(comparison.reference.answer.token_ids), len(comparison.reply.answer.token_ids))
    return Agreement(
        prompt=comparison.prompt.id,
        pass_number=comparison.reply.start.number,
        occasion=occasion(comparison.reply.start),
        share=1.0 if place is None else place / longer,
        first_difference=place,
    )


def shapes(evidence: Evidence) -> list[Shape]:
    """Length and repetition of every judged answer and of the baselines they are compared with."""
    found: dict[Shape, None] = {}
    for each in filter(_has_own_tokens, evidence.after):
        found[_shape(each.prompt.id, "baseline", each.reference.answer.token_ids)] = None
        found[_shape(each.prompt.id, "after", each.reply.answer.token_ids)] = None
    return list(found)


def _shape(prompt: str, side: str, token_ids: tuple[int, ...]) -> Shape:
    return Shape(prompt=prompt, side=side, tokens=len(token_ids), repeated=repeated_ngrams(token_ids))


def spreads(evidence: Evidence) -> list[Spread]:
    """What differed when nothing had happened, beside what differed after the transitions."""
    occasions = (("nothing had happened", evidence.null), ("after the transitions", evidence.after))
    methods = [method for method in Method if any(_by(method, compared) for _, compared in occasions)]
    return [
        _spread(name if method is Method.GENERATED else f"{name}, {method.value}", _by(method, compared))
        for method in methods
        for name, compared in occasions
    ]


def _by(method: Method, comparisons: Iterable[AnswerPair]) -> list[AnswerPair]:
    return [each for each in comparisons if each.reply.start.method is method]


def _spread(name: str, comparisons: Sequence[AnswerPair]) -> Spread:
    decoded = [each for each in comparisons if _has_own_tokens(each)]
    return Spread(
        name=name,
        compared=len(comparisons),
        different=sum(not each.same_tokens for each in decoded) if decoded or not comparisons else None,
        largest_shift=_largest(each.logprob_shift for each in comparisons),
        largest_gap=_largest(each.gap for each in comparisons),
    )


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
