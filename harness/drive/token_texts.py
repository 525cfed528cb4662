"""Asks the server what single tokens read, so that a report can show where answers part in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import anyio

from harness.drive.session import OBSERVATION_DEADLINE_S, Session, Suspect
from harness.history.passes import Answer, TokenTexts
from harness.vllm_api import lifecycle

AROUND = 8
"""Tokens shown on either side of the place where two answers part."""
MOST = 512
"""Tokens asked about in one cell: a handful of examples, not a dictionary."""
_AT_ONCE = 8


async def record_token_texts(session: Session, suspects: Sequence[Suspect]) -> None:
    """Record what the tokens read around the first difference of each suspect."""
    wanted = list(
        dict.fromkeys(
            token for suspect in suspects for token in _tokens_around(suspect.before, suspect.after)
        )
    )[:MOST]
    texts: dict[int, str] = {}
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def ask(token: int) -> None:
        async with limiter:
            result = await lifecycle.detokenize(
                session.connection.http,
                [token],
                model=session.served_model_name,
                deadline_s=OBSERVATION_DEADLINE_S,
            )
        text = result.field("prompt")
        if isinstance(text, str):
            texts[token] = text

    async with anyio.create_task_group() as group:
        for token in wanted:
            group.start_soon(ask, token)
    session.recorder.record(TokenTexts(t=session.recorder.now(), texts=dict(sorted(texts.items()))))


def _tokens_around(before: Answer, after: Answer) -> Iterator[int]:
    shorter = min(len(before.token_ids), len(after.token_ids))
    parting = next((i for i in range(shorter) if before.token_ids[i] != after.token_ids[i]), shorter)
    for answer in (before, after):
        yield from answer.token_ids[max(0, parting - AROUND) : parting + AROUND]
        yield from _candidates(answer, parting)


def _candidates(answer: Answer, position: int) -> Iterable[int]:
    if answer.logprobs is None or position >= len(answer.logprobs.top_ids):
        return ()
    return (int(token) for token in answer.logprobs.top_ids[position] if token >= 0)
