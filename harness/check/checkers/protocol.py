"""What no answer may do, whatever its text says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import finding_about, occasion
from harness.history.event_base import UNTIMELY
from harness.history.passes import Answer, Method, Prompt
from harness.history.recording import Recording

_Floats: TypeAlias = npt.NDArray[np.float32]
_Ids: TypeAlias = npt.NDArray[np.integer]

ROUNDING = 1e-4
"""nat; a probability may exceed 1, or a runner-up the chosen token, by no more than float32 can round."""

SENTINEL = -9999.0
"""nat; what vLLM writes for minus infinity (vllm/entrypoints/openai/completion/serving.py)."""

NOT_GREEDY = "not greedy"
"""Normal where the server applies penalties of its own (a model's generation config may bring them)."""


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find judged answers that fail, or contradict themselves or the baseline's identity.

    A violation the baseline commits as well is no sign of the transition, nor is one in an
    answer the baseline does not have: these are only hints here, and what is wrong with the
    baseline keeps the cell from being called clean.
    """
    usual = {kind for _, kind, _ in _violations(evidence, evidence.baseline_replies)}
    for reply, kind, message in _violations(evidence, evidence.after_replies):
        excused = kind in usual or reply.answer.prompt not in evidence.baseline
        yield finding_about(
            reply,
            message,
            checker="protocol",
            strength=Strength.HINT if excused else Strength.PROOF,
            evidence={"violation": kind},
        )


def baseline_violations(evidence: Evidence) -> tuple[str, ...]:
    """What is wrong with answers from before the first real transition, in words."""
    replies = (*evidence.baseline_replies, *evidence.null_replies)
    return tuple(
        f"{reply.answer.prompt}, {occasion(reply.start)}: {message}"
        for reply, kind, message in _violations(evidence, replies)
        if kind != NOT_GREEDY
    )


def _violations(evidence: Evidence, replies: tuple[Reply, ...]) -> Iterator[tuple[Reply, str, str]]:
    known = {
        reply.answer.system_fingerprint
        for reply in evidence.baseline_replies
        if reply.answer.failure is None and _tells_fingerprint(reply)
    }
    for reply in replies:
        answer = reply.answer
        if answer.failure is not None:
            # Lateness is a question of termination; that checker reports it.
            if answer.failure.kind not in UNTIMELY:
                yield reply, f"failed: {answer.failure.kind}", f"no answer: {answer.failure.message}"
            continue
        for kind, message in inconsistencies(answer, method=reply.start.method, recording=evidence.recording):
            yield reply, kind, message
        if known and _tells_fingerprint(reply) and answer.system_fingerprint not in known:
            yield (
                reply,
                "fingerprint",
                f"answered by configuration {answer.system_fingerprint!r}",
            )


def _tells_fingerprint(reply: Reply) -> bool:
    """Whether it came from an endpoint that says which configuration answers."""
    return reply.start.method is not Method.FORCED


def inconsistencies(answer: Answer, *, method: Method, recording: Recording) -> Iterator[tuple[str, str]]:
    """Yield every way in which a completed answer contradicts itself, as a short kind and a sentence."""
    if not method.tokens_are_given:
        yield from _counting(answer, recording.prompts[answer.prompt], cap=recording.cell.max_tokens)
    yield from _tokens(
        answer, end_of_sequence=recording.end_of_sequence_ids, vocabulary_size=recording.vocabulary_size
    )
    yield from _logprobs(answer, greedy=recording.cell.temperature == 0 and method is Method.GENERATED)


def _counting(answer: Answer, prompt: Prompt, *, cap: int) -> Iterator[tuple[str, str]]:
    got = len(answer.token_ids)
    if answer.completion_tokens is not None and answer.completion_tokens != got:
        yield "token count", f"{got} tokens received, but usage says {answer.completion_tokens}"
    if answer.prompt_tokens is not None and answer.prompt_tokens != len(prompt.token_ids):
        yield (
            "prompt count",
            f"{len(prompt.token_ids)} prompt tokens sent, but usage says {answer.prompt_tokens}",
        )
    if got > cap:
        yield "over the limit", f"{got} tokens received, but only {cap} allowed"
    if answer.finish_reason == "length" and got < cap:
        yield "early limit", f"ended by length after {got} of {cap} tokens"
    if answer.finish_reason in {None, "error", "abort"}:
        yield "not finished", f"ended with finish reason {answer.finish_reason!r}"


def _tokens(
    answer: Answer, *, end_of_sequence: tuple[int, ...], vocabulary_size: int | None
) -> Iterator[tuple[str, str]]:
    ends = set(end_of_sequence)
    if not ends.isdisjoint(answer.token_ids[:-1]):
        end = next(i for i, token in enumerate(answer.token_ids) if token in ends)
        after = len(answer.token_ids) - 1 - end
        yield "after the end", f"{after} tokens follow the end of sequence at token {end}"
    stopped = answer.finish_reason == "stop" and answer.stop_reason is None
    if ends and stopped and ends.isdisjoint(answer.token_ids):
        yield "no end", "ended by stop without an end of sequence, a stop token or a stop string"
    if vocabulary_size is not None and answer.token_ids:
        lowest, highest = min(answer.token_ids), max(answer.token_ids)
        if lowest < 0 or highest >= vocabulary_size:
            outside = lowest if lowest < 0 else highest
            yield "out of vocabulary", f"token id {outside} is outside the vocabulary of {vocabulary_size}"


def _logprobs(answer: Answer, *, greedy: bool) -> Iterator[tuple[str, str]]:
    if answer.logprobs is None:
        return
    chosen, top_ids, top = answer.logprobs.chosen, answer.logprobs.top_ids, answer.logprobs.top_values
    ids = np.asarray(answer.token_ids, dtype=np.int64)
    if len(chosen) != len(ids):
        yield "logprob count", f"{len(ids)} tokens came with {len(chosen)} log-probabilities"
    elif not _unremarkable(ids, chosen, top_ids, top):
        yield from _remarkable(ids, chosen, top_ids, top, greedy=greedy)


def _unremarkable(ids: _Ids, chosen: _Floats, top_ids: _Ids, top: _Floats) -> bool:
    """Whether every token is the first of full and finite lists: true of nearly all, and quickly told."""
    return bool(
        top.size
        and (top_ids[:, 0] == ids).all()
        and (top[:, 0] == chosen).all()
        and top.min() > SENTINEL
        and top.max() <= ROUNDING
        and top_ids.min() >= 0
        and (top[:, 1:] <= top[:, :-1]).all()
    )


def _remarkable(
    ids: _Ids, chosen: _Floats, top_ids: _Ids, top: _Floats, *, greedy: bool
) -> Iterator[tuple[str, str]]:
    listed = np.where(top_ids >= 0, top, np.float32(0))
    sound = np.isfinite(chosen) & np.isfinite(listed).all(axis=1) & (chosen > SENTINEL)
    if not sound.all():
        yield "not finite", f"the log-probability of token {int(np.argmin(sound))} is not a finite number"
        return
    if max(chosen.max(initial=0.0), listed.max(initial=0.0)) > ROUNDING:
        yield "above one", "a token has a probability above 1"
    if not listed.shape[1]:
        return
    if (top[:, 1:] > top[:, :-1]).any():
        yield "unordered", "the likeliest tokens are not sorted by log-probability"
    itself = top_ids == ids[:, np.newaxis]
    told_twice = (itself & (np.abs(top - chosen[:, np.newaxis]) > ROUNDING)).any(axis=1)
    passed_over = ~itself.any(axis=1) & (top_ids >= 0).all(axis=1) & (chosen > top.min(axis=1) + ROUNDING)
    wrong = told_twice | passed_over
    behind = (top_ids[:, 0] >= 0) & (top[:, 0] - chosen > ROUNDING)
    if wrong.any():
        yield (
            "contradictory logprob",
            f"the log-probability of token {int(np.argmax(wrong))} contradicts those of the likeliest tokens",
        )
    elif greedy and behind.any():
        yield NOT_GREEDY, f"token {int(np.argmax(behind))} is not the likeliest although temperature is 0"
