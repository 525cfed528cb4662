"""Two answers token by token, aligned by position, with what each side thought likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.check.result import Side, TokenChoice, Witness
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from harness.history.recording import Recording
from harness.report.witness import probability, token_text

_BEFORE = 12
_AFTER = 84
"""Positions shown around the first difference: enough to see a loop, little enough to read."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A token with its probability, 0 to 1; None where it was not recorded."""

    token_id: int
    text: str | None
    probability: float | None


@dataclass(frozen=True, kw_only=True)
class Token:
    """What one side generated at one position."""

    chosen: Choice
    likeliest: tuple[Choice, ...]


@dataclass(frozen=True, kw_only=True)
class Position:
    """One token position on both sides; None where an answer had ended."""

    index: int
    baseline: Token | None
    after: Token | None
    relation: str
    """``same``, ``part`` at the first difference, ``rest`` behind it."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A stretch of positions around the first difference."""

    positions: tuple[Position, ...]
    left_out_before: int
    left_out_after: int


def token_strip(witness: Witness, recording: Recording | None, *, texts: Mapping[int, str]) -> Strip:
    """Align both answers of ``witness`` by position around their first difference."""
    baseline, after = (
        _Reader(side.token_ids, _logprobs(side, witness.prompt, recording), texts)
        for side in (witness.baseline, witness.after)
    )
    return _strip(baseline, after, place=witness.first_difference, shown=(_BEFORE, _AFTER))


def answer_strip(baseline: Answer, after: Answer, *, place: int, texts: Mapping[int, str]) -> Strip:
    """The same of any two answers, in a stretch that is short enough to be one of many."""
    readers = (_Reader(answer.token_ids, answer.logprobs, texts) for answer in (baseline, after))
    return _strip(*readers, place=place, shown=(_BEFORE // 3, _AFTER // 3))


def _strip(baseline: _Reader, after: _Reader, *, place: int, shown: tuple[int, int]) -> Strip:
    total = max(baseline.length, after.length)
    start, end = max(0, place - shown[0]), min(total, place + shown[1])
    return Strip(
        positions=tuple(
            Position(
                index=index,
                baseline=baseline.at(index),
                after=after.at(index),
                relation="same" if index < place else "part" if index == place else "rest",
            )
            for index in range(start, end)
        ),
        left_out_before=start,
        left_out_after=total - end,
    )


def likeliest(side: Side, *, texts: Mapping[int, str]) -> list[Choice]:
    """What one side of a witness found likely where the two part."""
    return [_choice(each.token_id, each.logprob, texts) for each in side.likeliest]


def _choice(token_id: int, logprob: float | None, texts: Mapping[int, str]) -> Choice:
    chance = None if logprob is None else probability(TokenChoice(token_id=token_id, logprob=logprob))
    return Choice(token_id=token_id, text=token_text(token_id, texts=texts), probability=chance)


class _Reader:
    """One side's tokens, with the log-probabilities the recording holds for them."""

    def __init__(self, token_ids: Sequence[int], logprobs: Logprobs | None, texts: Mapping[int, str]) -> None:
        self._token_ids = token_ids
        self._texts = texts
        self._chosen: list[float] = logprobs.chosen.tolist() if logprobs else []
        self._top_ids: list[list[int]] = logprobs.top_ids.tolist() if logprobs else []
        self._top_values: list[list[float]] = logprobs.top_values.tolist() if logprobs else []

    @property
    def length(self) -> int:
        """How many tokens the answer has."""
        return len(self._token_ids)

    def at(self, index: int) -> Token | None:
        """The token at ``index``; None behind the end of the answer."""
        if index >= len(self._token_ids):
            return None
        if index >= len(self._chosen):
            return Token(chosen=_choice(self._token_ids[index], None, self._texts), likeliest=())
        likeliest = zip(self._top_ids[index], self._top_values[index], strict=True)
        return Token(
            chosen=_choice(self._token_ids[index], self._chosen[index], self._texts),
            likeliest=tuple(_choice(other, value, self._texts) for other, value in likeliest if other >= 0),
        )


def _logprobs(side: Side, prompt: str, recording: Recording | None) -> Logprobs | None:
    """The log-probabilities of one side's answer, if they are recorded and belong to the same tokens."""
    for each in recording.passes if recording else ():
        answer = each.answers.get(prompt)
        if each.number == side.pass_number and answer and answer.token_ids == side.token_ids:
            return answer.logprobs
    return None
