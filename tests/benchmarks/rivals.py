"""Four comparators of others, written from their published behaviour.

Each is a pure function over a recording and says whether it alarms.  All are treated kindly:
a judged answer meets the baseline's answer that was given under like conditions, as ours does,
and only greedily generated answers are compared, as they were made for these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.check import lifecycle_calls
from harness.check.answer_pair import AnswerPair
from harness.check.evidence import Evidence
from harness.history.passes import Answer, Method, PassStarted, Role
from harness.history.recording import Recording

SLEEP_TEST_TOKENS = 8
SLEEP_TEST_TOLERANCE = 1e-2
"""nat."""

KL_THRESHOLD = 0.0025
"""nat; SGLang's tests set one for every model, and this is among them."""


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """Whether a comparator alarms, why, and how many generated tokens after a transition it looked at."""

    alarm: bool
    reason: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class JudgedPass:
    """The answers of one pass after a transition, each beside the baseline's, and who was not answered."""

    start: PassStarted
    pairs: tuple[AnswerPair, ...]
    unanswered: tuple[str, ...]


@dataclass(frozen=True)
class Exchange:
    """What a rival sees of a recording."""

    recording: Recording

    @cached_property
    def passes(self) -> tuple[JudgedPass, ...]:
        """The judged passes in the order they ran."""
        evidence = Evidence(generated_only(self.recording))
        pairs: dict[int, list[AnswerPair]] = {}
        for pair in evidence.after:
            pairs.setdefault(pair.reply.start.number, []).append(pair)
        unanswered: dict[int, list[str]] = {}
        for reply in evidence.failed:
            unanswered.setdefault(reply.start.number, []).append(reply.answer.prompt)
        for start, prompt in evidence.missing:
            unanswered.setdefault(start.number, []).append(prompt.id)
        judged = {reply.start.number: reply.start for reply in evidence.after_replies}
        judged |= {start.number: start for start, _ in evidence.missing if start.role is Role.AFTER}
        return tuple(
            JudgedPass(
                start=start,
                pairs=tuple(pairs.get(number, ())),
                unanswered=tuple(unanswered.get(number, ())),
            )
            for number, start in sorted(judged.items())
        )

    @property
    def pairs(self) -> Iterator[AnswerPair]:
        """Every judged answer that has a counterpart."""
        return (pair for each in self.passes for pair in each.pairs)

    @property
    def tokens(self) -> int:
        """How many generated tokens there are to look at."""
        return sum(len(pair.reply.answer.token_ids) for pair in self.pairs)

    @property
    def unanswered(self) -> str | None:
        """The first request without an answer, in words; every comparator fails on it."""
        return next((f"{prompt}: no answer" for each in self.passes for prompt in each.unanswered), None)


def generated_only(recording: Recording) -> Recording:
    """Leave out passes that score given tokens, or sample: no rival was made for these."""
    passes = tuple(each for each in recording.passes if each.start.method is Method.GENERATED)
    return replace(recording, passes=passes)


def vllm_sleep_test(recording: Recording) -> Opinion:
    """vLLM's own test of sleep and wake (``tests/entrypoints/serve/dev/rlhf/state_transitions``, vllm#54930).

    One prompt, 8 greedy tokens, sent once after each wake-up: tokens and ending must be equal, each
    token's log-probability within 1e-2, and no prompt token may come from the cache that the sleep
    discarded.  Here the prompt is the first one and the sending is the first pass of each judged
    probe.  There it is the only request; here it shares the pass with the others, so "none from
    the cache" reads: no more than in the first pass of all.
    """  # noqa: D403 - the name is written so
    exchange = Exchange(recording)
    first_of_step = {each.start.step: each for each in reversed(exchange.passes)}
    prompt = next((each.id for each in recording.prompts.values() if not each.held_out), None)
    tokens = 0
    for each in sorted(first_of_step.values(), key=lambda judged: judged.start.number):
        if prompt in each.unanswered:
            return Opinion(alarm=True, reason=f"{prompt}: no answer", tokens=tokens)
        for pair in each.pairs:
            if pair.prompt.id == prompt:
                tokens += min(len(pair.reply.answer.token_ids), SLEEP_TEST_TOKENS)
                reason = _sleep_test_difference(pair) or _stale(pair, recording)
                if reason:
                    return Opinion(alarm=True, reason=f"{prompt}: {reason}", tokens=tokens)
    return Opinion(alarm=False, reason="the first prompt is answered as before", tokens=tokens)


def _sleep_test_difference(pair: AnswerPair) -> str | None:
    before, after = pair.reference.answer, pair.reply.answer
    n = SLEEP_TEST_TOKENS
    if before.token_ids[:n] != after.token_ids[:n]:
        return f"token {pair.first_difference} differs"
    if len(after.token_ids) < n and before.finish_reason != after.finish_reason:
        return "ends for another reason"
    if before.logprobs is None:
        return None
    was = before.logprobs.chosen[:n]
    now = after.logprobs.chosen[:n] if after.logprobs is not None else was[:0]
    if len(was) != len(now):
        return f"{len(now)} log-probabilities instead of {len(was)}"
    with np.errstate(invalid="ignore"):
        near = (was == now) | (np.abs(was - now) <= SLEEP_TEST_TOLERANCE)
    return None if near.all() else f"the log-probability of token {int(np.argmin(near))} is off"


def _stale(pair: AnswerPair, recording: Recording) -> str | None:
    start, cached = pair.reply.start, pair.reply.cached
    earlier = max((each.start.t for each in recording.passes if each.start.t < start.t), default=0.0)
    discard = lifecycle_calls.last_emptying(recording, before=start.t)
    if discard is None or discard.t < earlier:
        return None
    first = next(recording.passes_of(Role.BASELINE)).answers.get(pair.prompt.id)
    at_first = (first.cached_tokens or 0) if first else 0
    return f"{cached} tokens came from the discarded cache" if cached > at_first else None


def exact_tokens(recording: Recording) -> Opinion:
    """Every token of every answer must be the same: what is written first, and most often."""
    exchange = Exchange(recording)
    reason = exchange.unanswered or next(
        (
            f"{pair.prompt.id}: token {pair.first_difference} differs"
            for pair in exchange.pairs
            if pair.first_difference is not None
        ),
        None,
    )
    return _opinion(reason, exchange, calm="all tokens are equal")


def vllm_logprobs_close(recording: Recording) -> Opinion:
    """``check_logprobs_close`` of vLLM (``tests/models/utils.py``) with its default options.

    At the first token that differs each side's token must be among the likeliest ones the other
    lists there; what follows is not looked at.  Values are never compared, nor are lengths: an
    answer that is the beginning of the other passes.
    """
    exchange = Exchange(recording)
    reason = exchange.unanswered or next(
        (
            f"{pair.prompt.id}: token {pair.first_difference} is not among the other's likeliest"
            for pair in exchange.pairs
            if _not_close(pair)
        ),
        None,
    )
    return _opinion(reason, exchange, calm="tokens that differ are likely on both sides")


def _not_close(pair: AnswerPair) -> bool:
    before, after = pair.reference.answer, pair.reply.answer
    at = pair.first_difference
    if at is None or at >= min(len(before.token_ids), len(after.token_ids)):
        return False
    return not (_lists(before, after.token_ids[at], at) and _lists(after, before.token_ids[at], at))


def _lists(answer: Answer, token: int, position: int) -> bool:
    if answer.logprobs is None or position >= len(answer.logprobs.chosen):
        return False
    return bool((answer.logprobs.top_ids[position] == token).any())


def sglang_mean_kl(recording: Recording) -> Opinion:
    """Mean KL divergence against a fixed threshold, as in SGLang's ``kl_test_utils.py``.

    A token's divergence is estimated by ``exp(r) - 1 - r``, where ``r`` is its log-probability
    afterwards less that in the baseline.  An answer's is the mean over its tokens, a pass's the
    mean over its answers, and every pass must stay below 0.0025.  SGLang scores the same tokens
    twice; here an answer's tokens are those before the first one that differs, for only they
    have the same context.  An answer without any, or without log-probabilities on either side, is
    left out; a pass of which nothing is left alarms, as does one whose mean is no number.
    """
    exchange = Exchange(recording)
    means = ((each, _mean_kl(each)) for each in exchange.passes if each.pairs)
    reason = exchange.unanswered or next(
        (
            f"pass {each.start.number}: mean KL {mean:.2g}"
            for each, mean in means
            if not mean < KL_THRESHOLD  # a mean that is no number is not below it either
        ),
        None,
    )
    return _opinion(reason, exchange, calm=f"mean KL below {KL_THRESHOLD}")


def _mean_kl(judged: JudgedPass) -> float:
    told = (_kl(pair) for pair in judged.pairs)
    scored = [kl for kl in told if kl is not None]
    return float(np.mean(scored)) if scored else float("nan")


def _kl(pair: AnswerPair) -> float | None:
    before, after = pair.reference.answer.logprobs, pair.reply.answer.logprobs
    if before is None or after is None:
        return None
    tokens = min(pair.shared, len(before.chosen), len(after.chosen))
    if not tokens:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        r = after.chosen[:tokens].astype(np.float64) - before.chosen[:tokens]
        return float(np.mean(np.exp(r) - 1 - r))


def _opinion(reason: str | None, exchange: Exchange, *, calm: str) -> Opinion:
    return Opinion(alarm=reason is not None, reason=reason or calm, tokens=exchange.tokens)


RIVALS: Mapping[str, Callable[[Recording], Opinion]] = {
    "vLLM's sleep test": vllm_sleep_test,
    "exact tokens": exact_tokens,
    "check_logprobs_close": vllm_logprobs_close,
    "SGLang's mean KL": sglang_mean_kl,
}
"""By the name they have in the tables."""
