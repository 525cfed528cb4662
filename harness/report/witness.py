"""The witness set side by side: where baseline and after part, and how sure each side was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from harness.check.answer_pair import common_prefix
from harness.check.result import Side, TokenChoice, Witness
from harness.report.text import count, one_line, percent, shorten

ENDED = "(the answer had ended)"
ENDS_HERE = "(ends here)"

_TOKEN_SHOWN = 40
"""Characters; tokens that read more are runs of one character."""


@dataclass(frozen=True)
class Row:
    """One property of the two answers, ready to be read."""

    label: str
    baseline: str
    after: str
    is_rank: bool = False
    """Whether the row is one of the likeliest tokens where the two part."""


@dataclass(frozen=True, kw_only=True)
class Parting:
    """Two answers split at the first character where their texts differ."""

    shared: str
    baseline: str
    after: str


def parting(witness: Witness) -> Parting:
    """Split both answers where their texts part; nothing is cut off and nothing is escaped yet."""
    return part_texts(witness.baseline.text, witness.after.text)


def part_texts(before: str, after: str) -> Parting:
    """Split two texts at the first character that differs."""
    shared = common_prefix(before, after)
    return Parting(shared=before[:shared], baseline=before[shared:], after=after[shared:])


def facts(witness: Witness, *, token_texts: Mapping[int, str]) -> list[Row]:
    """Everything about the two answers but their text, as rows of one line a side.

    ``token_texts`` says what single tokens read, where that is known.
    """
    place = witness.first_difference
    ranks = range(max(len(side.likeliest) for side in (witness.baseline, witness.after)))

    def row(label: str, tell: Callable[[Side], str]) -> Row:
        return Row(label, tell(witness.baseline), tell(witness.after))

    return [
        row("asked", lambda side: f"pass {side.pass_number}, {one_line(side.condition)}"),
        row("tokens", lambda side: f"{len(side.token_ids)}"),
        row("finish reason", lambda side: one_line(side.finish_reason or "none")),
        row("cached tokens", _cached),
        row(f"token {place}", partial(_chosen, place=place, texts=token_texts)),
        *(
            Row(
                label=f"likeliest {rank + 1}",
                baseline=_likeliest(witness.baseline, rank=rank, texts=token_texts),
                after=_likeliest(witness.after, rank=rank, texts=token_texts),
                is_rank=True,
            )
            for rank in ranks
        ),
    ]


def _cached(side: Side) -> str:
    return "not reported" if side.cached_tokens is None else str(side.cached_tokens)


def _chosen(side: Side, *, place: int, texts: Mapping[int, str]) -> str:
    if place >= len(side.token_ids):
        return ENDED
    token_id = side.token_ids[place]
    known = [choice for choice in side.likeliest if choice.token_id == token_id]
    chance = f", {percent(probability(known[0]))}" if known else ""
    return token_label(token_id, texts=texts) + chance


def _likeliest(side: Side, *, rank: int, texts: Mapping[int, str]) -> str:
    if rank >= len(side.likeliest):
        return ""
    choice = side.likeliest[rank]
    return f"{percent(probability(choice)):>6}  {token_label(choice.token_id, texts=texts)}"


def token_label(token_id: int, *, texts: Mapping[int, str]) -> str:
    """Name a token by its id and, where it is known, by what it reads: ``6842 ' India'``."""
    text = token_text(token_id, texts=texts)
    return str(token_id) if text is None else f"{token_id} '{text}'"


def token_text(token_id: int, *, texts: Mapping[int, str]) -> str | None:
    """What a token reads, on one line; None where that is not known."""
    text = texts.get(token_id)
    return None if text is None else shorten(one_line(text), limit=_TOKEN_SHOWN)


def probability(choice: TokenChoice) -> float:
    """The probability behind a log-probability, never above one."""
    return math.exp(min(choice.logprob, 0.0))


def where_they_part(witness: Witness) -> str:
    """Say where the answers part and how sure the baseline was there."""
    place = witness.first_difference
    if witness.baseline.token_ids == witness.after.token_ids:
        if witness.baseline.likeliest == witness.after.likeliest:
            return "Both answers have the same tokens; the findings say what else is wrong."
        return f"Both have the same tokens; from index {place} on their probabilities differ."
    start = (
        "They diverge at the first token"
        if place == 0
        else f"They diverge after {count(place, 'equal token')} (at index {place})"
    )
    same = " The texts read the same." if witness.baseline.text == witness.after.text else ""
    return f"{start}.{same} {_sureness(witness)}"


def _sureness(witness: Witness) -> str:
    if witness.baseline_gap is None:
        return "How sure the baseline was there is not known."
    first, second = [*witness.baseline.likeliest, None, None][:2]
    gap = f"{witness.baseline_gap:.2f} nat ahead of the next likeliest"
    if first and second:
        sure, other = percent(probability(first)), percent(probability(second))
        return f"The baseline gave its token {sure}, {gap} ({other})."
    return f"The baseline's token was {gap}."
