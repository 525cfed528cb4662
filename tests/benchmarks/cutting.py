"""A recording as it would have been with a lower limit of tokens."""

from __future__ import annotations

from dataclasses import replace

from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from harness.history.recording import Recording


def cut(recording: Recording, *, tokens: int) -> Recording:
    """Cut every answer to its first ``tokens`` tokens, as if that had been the limit.

    What greedy decoding generates does not depend on the limit, so nothing is made up.  The
    text stays whole: only whether there is one matters to any checker.
    """
    limit = min(tokens, recording.cell.max_tokens)
    return replace(
        recording,
        cell=recording.cell.model_copy(update={"max_tokens": limit}),
        passes=tuple(
            replace(
                each,
                answers={prompt: cut_answer(answer, tokens=limit) for prompt, answer in each.answers.items()},
            )
            for each in recording.passes
        ),
    )


def cut_answer(answer: Answer, *, tokens: int) -> Answer:
    """Cut one answer; one that is short enough stays as it is."""
    had = len(answer.token_ids)
    if had <= tokens:
        return answer
    return answer.model_copy(
        update={
            "token_ids": answer.token_ids[:tokens],
            # Both are None where tokens were only scored.
            "finish_reason": None if answer.finish_reason is None else "length",
            "completion_tokens": None if answer.completion_tokens is None else tokens,
            "stop_reason": None,
            "logprobs": None if answer.logprobs is None else _cut_logprobs(answer.logprobs, tokens=tokens),
            "seconds": answer.seconds * tokens / had,
        }
    )


def _cut_logprobs(logprobs: Logprobs, *, tokens: int) -> Logprobs:
    return Logprobs.pack(
        chosen=logprobs.chosen[:tokens],
        top_ids=logprobs.top_ids[:tokens],
        top_values=logprobs.top_values[:tokens],
    )
