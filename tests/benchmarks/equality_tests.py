"""Four tests from the literature on whether two samples of answers came from the same model.

The answers from before the first transition are one sample, those from after it the other.  An answer is
only ever exchanged with one to the same prompt that was given under like conditions.  Most were made for
servers that sample and may hide their log-probabilities; here they see what a recording holds, answers that
were generated greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy  # type: ignore[import-untyped]  # SciPy ships no types; what is used of it is loaded then

from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.history.passes import Answer
from harness.history.recording import Recording
from tests.benchmarks.rivals import Exchange, Opinion, generated_only

Floats = npt.NDArray[np.float64]

ALPHA = 1e-3
"""The error rate of each, as published tests set it; ours spends as much in ``make power``."""

PERMUTATIONS = 999
BORDER_INPUTS = 5
"""Prompts that border tracking asks: those whose two likeliest first tokens are the nearest to a tie."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Answers to one prompt that were given under like conditions."""

    before: tuple[Answer, ...]
    after: tuple[Answer, ...]

    @property
    def all(self) -> tuple[Answer, ...]:
        """First those from before."""
        return (*self.before, *self.after)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a test makes of a recording."""

    p_value: float
    score: float
    """How far the samples lie apart; it can be compared between recordings."""
    tokens: int
    """Generated after the transition, and looked at."""


NOTHING = Measured(p_value=1.0, score=0.0, tokens=0)


def strata(recording: Recording) -> list[Stratum]:
    """Every prompt and condition of which there are answers from before and after."""
    evidence = Evidence(generated_only(recording))
    sort = evidence.null_answers.conditions

    def by_conditions(replies: Sequence[Reply]) -> dict[object, list[Answer]]:
        found: dict[object, list[Answer]] = {}
        for reply in replies:
            if reply.answer.failure is None and reply.answer.token_ids and reply.answer.logprobs is not None:
                found.setdefault(sort(reply), []).append(reply.answer)
        return found

    before = by_conditions((*evidence.baseline_replies, *evidence.null_replies))
    after = by_conditions(evidence.after_replies)
    return [
        Stratum(before=tuple(before[conditions]), after=tuple(answers))
        for conditions, answers in after.items()
        if conditions in before
    ]


def log_probability_tracking(recording: Recording) -> Measured:
    """LT (arXiv 2512.03816): the mean shift of the first token's average log-probabilities.

    One token a request.  A candidate that an answer does not list counts as its least likely one.
    """
    found = strata(recording)
    return _permuted(
        found,
        [_first_logprobs(each) for each in found],
        lambda differences: np.abs(differences).mean(axis=1),
        tokens=sum(len(each.after) for each in found),
    )


def border_input_tracking(recording: Recording) -> Measured:
    """B3IT (arXiv 2602.11083): how the first tokens of prompts that are nearly tied are distributed.

    The statistic is the total variation between the two samples, averaged over the prompts.  The paper
    searches for short inputs that tie; here the prompts are given, and the nearest to a tie are taken.
    """
    found = sorted(strata(recording), key=_gap)[:BORDER_INPUTS]
    return _permuted(
        found,
        [_one_hot([answer.token_ids[0] for answer in each.all]) for each in found],
        lambda differences: np.abs(differences).sum(axis=1) / 2,
        tokens=sum(len(each.after) for each in found),
    )


def kernel_two_sample(recording: Recording) -> Measured:
    """Model equality testing (arXiv 2410.20247): maximum mean discrepancy with the Hamming kernel.

    The kernel is the part of the positions at which two answers have the same token.
    """
    found = strata(recording)
    return _permuted(
        found,
        [_by_position(each) for each in found],
        lambda differences: np.square(differences).sum(axis=1),
        tokens=sum(len(answer.token_ids) for each in found for answer in each.after),
    )


def rank_uniformity(recording: Recording) -> Measured:
    """RUT (arXiv 2506.06975): ranks of the judged answers among the reference's must be uniform.

    One answer a prompt.  It is scored, ranked within the reference's scores with ties broken at random, and
    the ranks are held against the uniform distribution by Cramer and von Mises' test.  The paper scores by
    the logarithm of the tokens' ranks; a greedy token is always the first, so its log-probability is taken.
    """
    found = strata(recording)
    if not found:
        return NOTHING
    random = np.random.default_rng(len(found))
    ranks = [_rank(each, random) for each in found]
    test = scipy.stats.cramervonmises(ranks, "uniform")
    return Measured(
        p_value=float(test.pvalue),
        score=float(test.statistic),
        tokens=sum(len(each.after[0].token_ids) for each in found),
    )


def _permuted(
    found: Sequence[Stratum],
    features: Sequence[Floats],
    measure: Callable[[Floats], Floats],
    *,
    tokens: int,
) -> Measured:
    """Compare how far the samples' means lie apart with how far they do when answers change places."""
    if not found:
        return NOTHING
    random = np.random.default_rng(len(found))
    totals = np.zeros(PERMUTATIONS + 1)
    for stratum, of_stratum in zip(found, features, strict=True):
        before, after = len(stratum.before), len(stratum.after)
        weights = np.concatenate([np.full(before, 1 / before), np.full(after, -1 / after)])
        shuffled = random.permuted(np.tile(weights, (PERMUTATIONS, 1)), axis=1)
        totals += measure(np.vstack([weights, shuffled]) @ of_stratum) / len(found)
    observed, chance = totals[0], totals[1:]
    beyond = int((chance >= observed - 1e-12).sum())
    spread = float(chance.std())
    return Measured(
        p_value=(1 + beyond) / (1 + PERMUTATIONS),
        score=float(observed - chance.mean()) / spread if spread > 1e-12 else 0.0,
        tokens=tokens,
    )


def _first_logprobs(stratum: Stratum) -> Floats:
    """One row an answer: the log-probability of every candidate that any of them lists."""
    listed = [dict(_candidates(answer)) for answer in stratum.all]
    tokens = sorted({token for each in listed for token in each})
    rows = [[each.get(token, min(each.values())) for token in tokens] for each in listed]
    return np.array(rows, dtype=np.float64)


def _candidates(answer: Answer) -> Iterator[tuple[int, float]]:
    assert answer.logprobs is not None
    for token, value in zip(answer.logprobs.top_ids[0], answer.logprobs.top_values[0], strict=True):
        if token >= 0 and np.isfinite(value):
            yield int(token), float(value)
    yield answer.token_ids[0], float(np.nan_to_num(answer.logprobs.chosen[0], neginf=-1e4))


def _gap(stratum: Stratum) -> float:
    """How much likelier the first token was than the second likeliest, before the transition."""
    gaps = []
    for answer in stratum.before:
        likeliest = sorted((value for _, value in dict(_candidates(answer)).items()), reverse=True)
        gaps.append(likeliest[0] - likeliest[1] if len(likeliest) > 1 else np.inf)
    return float(np.mean(gaps))


def _by_position(stratum: Stratum) -> Floats:
    """Features of which the product is the part of equal positions; where an answer ended is a token, too."""
    longest = max(len(answer.token_ids) for answer in stratum.all)
    columns = [
        _one_hot([answer.token_ids[at] if at < len(answer.token_ids) else -1 for answer in stratum.all])
        for at in range(longest)
    ]
    features: Floats = np.hstack(columns) / np.sqrt(longest)
    return features


def _one_hot(tokens: Sequence[int]) -> Floats:
    places = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    found = np.zeros((len(tokens), len(places)))
    found[np.arange(len(tokens)), [places[token] for token in tokens]] = 1.0
    return found


def _rank(stratum: Stratum, random: np.random.Generator) -> float:
    judged, *reference = (_mean_logprob(answer) for answer in (stratum.after[0], *stratum.before))
    below = sum(each < judged for each in reference)
    equal = sum(each == judged for each in reference)
    return float((below + random.random() * (equal + 1)) / (len(reference) + 1))


def _mean_logprob(answer: Answer) -> float:
    assert answer.logprobs is not None
    return float(np.nan_to_num(answer.logprobs.chosen, nan=-1e4, neginf=-1e4).mean())


def _opinion(test: Callable[[Recording], Measured]) -> Callable[[Recording], Opinion]:
    def opinion(recording: Recording) -> Opinion:
        found, unanswered = test(recording), Exchange(recording).unanswered
        return Opinion(
            alarm=unanswered is not None or found.p_value <= ALPHA,
            reason=unanswered or f"p = {found.p_value:.2g}",
            tokens=found.tokens,
        )

    return opinion


EQUALITY_TESTS: Mapping[str, Callable[[Recording], Measured]] = {
    "log-probability tracking": log_probability_tracking,
    "border inputs (B3IT)": border_input_tracking,
    "MMD, Hamming kernel": kernel_two_sample,
    "rank uniformity (RUT)": rank_uniformity,
}
"""By the name they have in the tables."""

OPINIONS: Mapping[str, Callable[[Recording], Opinion]] = {
    name: _opinion(test) for name, test in EQUALITY_TESTS.items()
}
"""What each says at :data:`ALPHA`."""
