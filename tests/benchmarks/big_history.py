"""A large history of a healthy, noisy engine, made from the simulation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.history.events import CellFinished, Event
from harness.history.layout import HISTORY_FILE
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer, PromptsPrepared
from harness.history.recording import Recording
from harness.history.store import HistoryWriter
from tests.check.simulation import END_OF_SEQUENCE, VOCABULARY, Engine, Noise, Setup

PROMPTS, TOKENS, NULL_PASSES, CYCLES = 100, 256, 4, 45
"""Three baseline passes, two for every null pass, two a cycle: 101 passes, 10,100 answers."""

LIKE_BF16 = Noise(sd=0.05, quantum=0.125)
"""Logits between 16 and 32 are rounded to eighths there."""

SPREAD = 751
"""The simulated vocabulary is small; times this, its ids have as many digits as a real model's."""

TEXT = " ".join(f"word{number}" for number in range(140))
"""As long as 256 tokens of prose usually are."""


def simulate_large(
    *, prompts: int = PROMPTS, tokens: int = TOKENS, null_passes: int = NULL_PASSES, cycles: int = CYCLES
) -> Recording:
    """Simulate a cell in which every answer runs to the limit."""
    setup = Setup(prompts=prompts, tokens=tokens, null_passes=null_passes, cycles=cycles, noise=LIKE_BF16)
    engine = Engine(random=np.random.default_rng(1), setup=setup)
    engine.logits = engine.logits.copy()
    engine.logits[:, END_OF_SEQUENCE] = -1e3
    return engine.recording()


def write_history(recording: Recording, folder: Path) -> Path:
    """Write a simulated recording as the harness would have while it ran; return the file."""
    path = folder / HISTORY_FILE
    with HistoryWriter(path) as history:
        for event in events_of(recording):
            history.write(event)
    return path


def events_of(recording: Recording) -> Iterator[Event]:
    """Yield the events of a simulated recording in order, ids and texts as large as a real model's."""
    yield recording.cell
    yield PromptsPrepared(
        t=0,
        prompts=tuple(recording.prompts.values()),
        end_of_sequence_ids=recording.end_of_sequence_ids,
        vocabulary_size=VOCABULARY * SPREAD,
    )
    answers = {each.start.t: tuple(each.answers.values()) for each in recording.passes}
    starts: list[Event] = [*recording.steps, *(each.start for each in recording.passes)]
    for start in sorted(starts, key=lambda event: event.t):
        yield start
        yield from map(_enlarged, answers.get(start.t, ()))
    yield CellFinished(t=max(event.t for event in starts))


def _enlarged(answer: Answer) -> Answer:
    logprobs = answer.logprobs
    assert logprobs is not None
    return answer.model_copy(
        update={
            "text": TEXT,
            "token_ids": tuple(SPREAD * token for token in answer.token_ids),
            "logprobs": Logprobs.pack(
                chosen=logprobs.chosen,
                top_ids=SPREAD * logprobs.top_ids,
                top_values=logprobs.top_values,
            ),
        }
    )
