"""Engines that exist on paper only, healthy and damaged, for the check to be tried on by the thousand.

Their noise owes nothing to what the check assumes of noise.  Logits come from a hidden vector through a
matrix; noise is added to the hidden vector, so that all candidates of a token move together, and what comes
out is rounded as bfloat16 does, to eight significant bits.  How the noise of one request hangs together with
that of the others is what the models of noise differ in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import count

import numpy as np
import numpy.typing as npt

from harness.history.observations import StepStarted
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, CacheCondition, PassStarted, Prompt, Role
from harness.history.recording import Pass, Recording
from tests.history.begun import step_started
from tests.history.strategies import cell_started

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PROMPTS, TOKENS, TOP_K, PROMPT_TOKENS = 10, 24, 5, 64
CONTEXTS, HIDDEN, VOCABULARY, END = 4096, 16, 48, 0
NULL_PASSES, CYCLES = 4, 2
SD = 0.02
"""Of the noise of one number of the hidden vector: it moves a logit by 0.08 nat, as rounding does."""

_WARM, _REHIT, _COLD = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD
SCHEDULE = (
    *((Role.BASELINE, 0, cache_) for cache_ in (_WARM, _REHIT, _COLD)),
    *((Role.NULL, 0, cache_) for _ in range(NULL_PASSES) for cache_ in (_WARM, _COLD)),
    *((Role.AFTER, cycle, cache_) for cycle in range(1, CYCLES + 1) for cache_ in (_WARM, _COLD)),
)
"""Every pass: what it is evidence of, its cycle, and whether it reads the cache."""


@dataclass(frozen=True, kw_only=True)
class Requests:
    """All requests of a history, one row each: what noise and damage may depend on."""

    passes: Ints
    prompts: Ints
    after: npt.NDArray[np.bool_]
    warm: npt.NDArray[np.bool_]


Noise = Callable[[Requests, np.random.Generator], Callable[[], Floats]]
"""Given the requests, how to draw what is added to their hidden vectors at the next token."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """What damage may change while a token is made."""

    position: int
    logits: Floats
    previous: Ints


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong after waking up."""

    begins: Callable[[Ints, Requests, np.random.Generator], Ints] = lambda contexts, *_: contexts
    """Takes the contexts that answers begin from and returns the ones they do begin from."""
    changes: Callable[[Token, Requests, np.random.Generator], Floats] = lambda token, *_: token.logits
    """Returns the logits of every row; only those of requests after waking up are taken."""


HEALTHY = Damage()


@dataclass(frozen=True, kw_only=True)
class _Model:
    hidden: Floats
    matrix: Floats


@cache
def _model() -> _Model:
    """The same one in all histories; some contexts are sure of their next token, others are near ties."""
    random = np.random.default_rng(24)
    sureness = random.gamma(1.5, 0.8, size=(CONTEXTS, 1))
    return _Model(
        hidden=random.normal(size=(CONTEXTS, HIDDEN)) * sureness,
        matrix=random.normal(size=(HIDDEN, VOCABULARY)),
    )


def history(seed: int, noise: Noise, damage: Damage = HEALTHY, *, rounded: bool = True) -> Recording:
    """Run one cell: baseline, null transitions, cycles of sleep and wake-up; the same for the same seed."""
    random = np.random.default_rng(seed)
    requests = _requests()
    first = random.integers(0, CONTEXTS, size=PROMPTS)[requests.prompts]
    contexts = np.where(requests.after, damage.begins(first.copy(), requests, random), first)
    draw = noise(requests, random)

    def change(token: Token) -> Floats:
        changed = damage.changes(replace(token, logits=token.logits.copy()), requests, random)
        return np.where(requests.after[:, np.newaxis], changed, token.logits)

    ids, values = answered(contexts, draw, change, rounded=rounded)
    return _recording(ids, values)


def answered(
    contexts: Ints,
    draw: Callable[[], Floats],
    change: Callable[[Token], Floats] = lambda token: token.logits,
    *,
    tokens: int = TOKENS,
    rounded: bool = True,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Answer one request from each of ``contexts``: ids of the likeliest tokens and their log-probabilities.

    Args:
        contexts: Where the answers begin.
        draw: What is added to the hidden vectors at the next token.
        change: Returns the logits as they come out of a damaged engine.
        tokens: Of an answer.
        rounded: To bfloat16.
    """
    model = _model()
    ids = np.zeros((len(contexts), tokens, TOP_K), dtype=np.int32)
    values = np.zeros((len(contexts), tokens, TOP_K), dtype=np.float32)
    previous = np.full(len(contexts), -1)
    for position in range(tokens):
        logits = change(
            Token(
                position=position, logits=(model.hidden[contexts] + draw()) @ model.matrix, previous=previous
            )
        )
        logits = _as_bfloat16(logits) if rounded else logits
        best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
        top = logits[np.arange(len(contexts)), best[:, 0]][:, np.newaxis]
        normaliser = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        ids[:, position], previous = best, best[:, 0]
        values[:, position] = np.take_along_axis(logits, best, axis=1) - normaliser
        contexts = (contexts * 31 + previous * 17 + 7) % CONTEXTS
    return ids, values


def _requests() -> Requests:
    passes = np.repeat(np.arange(len(SCHEDULE)), PROMPTS)
    return Requests(
        passes=passes,
        prompts=np.tile(np.arange(PROMPTS), len(SCHEDULE)),
        after=np.array([role is Role.AFTER for role, _, _ in SCHEDULE])[passes],
        warm=np.array([cache_ is not _COLD for _, _, cache_ in SCHEDULE])[passes],
    )


def _as_bfloat16(values: Floats) -> Floats:
    """Cut off to sixteen bits after adding half of what is cut off, as hardware rounds."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


def _recording(ids: npt.NDArray[np.int32], values: npt.NDArray[np.float32]) -> Recording:
    clock = count(1)
    passes: list[Pass] = []
    steps: list[StepStarted] = []
    for number, (role, cycle, cache_) in enumerate(SCHEDULE):
        if cycle > len(steps):
            steps.append(
                step_started(t=next(clock), step=f"s{cycle}", action="sleep", options={}, cycle=cycle)
            )
        start = PassStarted(
            t=next(clock),
            number=number,
            step=f"p{cycle}",
            probe=role.value,
            role=role,
            cache=cache_,
            concurrency=PROMPTS,
            cycle=cycle,
        )
        rows = range(number * PROMPTS, (number + 1) * PROMPTS)
        answers = [answer_of(start, place, ids[row], values[row]) for place, row in enumerate(rows)]
        passes.append(Pass(start=start, answers={answer.prompt: answer for answer in answers}))
    return Recording(
        cell=cell_started(max_tokens=TOKENS, arm_args=["--no-enable-prefix-caching"]),
        prompts=prompts(),
        end_of_sequence_ids=(END,),
        vocabulary_size=VOCABULARY,
        passes=tuple(passes),
        steps=tuple(steps),
        finished=True,
    )


def answer_of(
    start: PassStarted,
    prompt: int,
    ids: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    *,
    cached: int = 0,
) -> Answer:
    """One answer of a pass, from what :func:`answered` returns of it; ``cached`` tokens were not computed."""
    tokens = ids[:, 0]
    ends = np.flatnonzero(tokens == END)
    length = int(ends[0]) + 1 if len(ends) else len(tokens)
    return Answer(
        t=start.t,
        pass_number=start.number,
        prompt=f"p{prompt}",
        token_ids=tuple(tokens[:length].tolist()),
        text="text",
        finish_reason="stop" if len(ends) else "length",
        prompt_tokens=PROMPT_TOKENS,
        completion_tokens=length,
        cached_tokens=cached,
        seconds=1.0,
        logprobs=Logprobs.pack(
            chosen=np.ascontiguousarray(values[:length, 0]), top_ids=ids[:length], top_values=values[:length]
        ),
    )


@cache
def prompts(count: int = PROMPTS) -> Mapping[str, Prompt]:
    """So many prompts."""
    return {
        f"p{number}": Prompt(
            id=f"p{number}", text="prompt", token_ids=(number, *range(100, 99 + PROMPT_TOKENS))
        )
        for number in range(count)
    }
