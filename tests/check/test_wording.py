"""How passes are named in sentences."""

from __future__ import annotations

import pytest

from harness.check.answer_pair import Reply
from harness.check.wording import condition, counted, describe, occasion
from harness.history.passes import CacheCondition, Control, PassStarted, Role
from tests.check.stories import COLD, REHIT, WARM, Story
from tests.history.begun import step_started


def started(
    role: Role, cache: CacheCondition = WARM, *, cycle: int = 0, control: Control | None = None
) -> PassStarted:
    """A pass."""
    return PassStarted(
        t=0,
        number=1,
        step="1",
        probe="probe",
        role=role,
        cache=cache,
        concurrency=1,
        cycle=cycle,
        control=control,
    )


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (started(Role.BASELINE), "baseline, warm"),
        (started(Role.BASELINE, REHIT), "baseline, rehit"),
        (started(Role.NULL, COLD), "null transition, cold"),
        (started(Role.AFTER, COLD, cycle=2), "cycle 2, cold"),
        (started(Role.AFTER), "after the transition, warm"),
        (started(Role.CONTROL, COLD, control=Control.RESET_PREFIX_CACHE), "control reset prefix cache, cold"),
        (started(Role.CONTROL, COLD), "control, cold"),
    ],
)
def test_every_pass_has_a_name(start: PassStarted, words: str) -> None:
    """Role, cycle or question, and cache condition."""
    assert occasion(start) == words


@pytest.mark.parametrize(
    ("cache", "cached", "words"),
    [
        (WARM, 16, "warm, 16 prompt tokens from the cache, cycle 1"),
        (WARM, 0, "warm, computed, cycle 1"),
        (WARM, None, "warm, cycle 1"),
        (COLD, 0, "cold, cycle 1"),
        (COLD, None, "cold, cycle 1"),
        (COLD, 1, "cold, 1 prompt tokens from the cache, cycle 1"),
    ],
)
def test_how_an_answer_came_to_be(cache: CacheCondition, cached: int | None, words: str) -> None:
    """From the cache or computed, as far as the server tells."""
    answer = Story().baseline().recording().passes[0].answers["p0"]
    reply = Reply(
        start=started(Role.AFTER, cache, cycle=1), answer=answer.model_copy(update={"cached_tokens": cached})
    )
    assert condition(reply) == words


@pytest.mark.parametrize(
    ("number", "plural", "words"),
    [
        (0, None, "0 answers"),
        (1, None, "1 answer"),
        (2, None, "2 answers"),
        (1, "replies", "1 answer"),
        (2, "replies", "2 replies"),
    ],
)
def test_things_are_counted(number: int, plural: str | None, words: str) -> None:
    """One is singular; a plural that takes more than an s is given."""
    assert counted(number, "answer", plural) == words


def test_calls_that_overlap_are_told_together() -> None:
    """Each with what the script says of it, and when it begins."""
    calls = [
        {"sleep": {"level": 1, "mode": "wait"}},
        {"wake_up": {"begins": {"while_pending": "sleep"}}},
    ]
    step = step_started(t=0, step="1", action="concurrently", options={"calls": calls}, cycle=0)
    assert describe(step) == ("concurrently sleep level 1 mode wait and wake up begins while pending sleep")
