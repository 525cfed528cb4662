"""What happened in a cell, in order."""

from __future__ import annotations

import dataclasses

from harness.check.evidence import Evidence
from harness.history.event_base import CallFailure
from harness.history.observations import StepFinished
from harness.history.recording import Pass
from harness.report.timeline import moments, sleep_phases
from tests.report import examples


def test_moments_are_in_order_and_passes_follow_their_step() -> None:
    """The server comes first, then every step with the passes within it."""
    rows = moments(Evidence(examples.recording()))
    assert [row.t for row in rows] == sorted(row.t for row in rows)
    assert [row.what for row in rows][:3] == [
        "server ready",
        "probe baseline",
        "pass 1, baseline, warm: 4 answers",
    ]


def test_a_server_that_was_booted_for_another_cell_was_not_waited_for() -> None:
    """The first row says whose server it is instead of how long it took."""
    whole = examples.recording()
    assert whole.server
    shared = whole.server.model_copy(update={"shared_with": ("a.first", "a.second"), "boot_seconds": 0.0})
    row = moments(Evidence(dataclasses.replace(whole, server=shared)))[0]
    assert (row.what, row.took) == ("reuses the server of a.first", "")


def test_a_step_shows_what_was_seen_not_what_was_answered() -> None:
    """State and memory come from observations independent of the call."""
    rows = moments(Evidence(examples.recording()))
    sleep = next(row for row in rows if row.what == "cycle 1: sleep (level 1)")
    assert sleep.seen == "asleep, gauge weights_offloaded, 973 MiB resident"


def test_a_pass_shows_agreement_and_cached_tokens() -> None:
    """How many answers are as in the baseline, and how much the cache served."""
    rows = moments(Evidence(examples.recording(stuck=("india", "rivers"))))
    after = next(row for row in rows if row.what.startswith("pass 6, cycle 1, warm"))
    assert after.seen == "2 of 4 as in the baseline, 256 prompt tokens from the cache"


def test_trouble_is_part_of_the_row() -> None:
    """An observation that contradicts a step, a failed answer and a step that never ended all show."""
    whole = examples.recording()
    first = whole.passes[0]
    failure = CallFailure(kind="timeout", message="no answer within 180 s")
    answers = {
        name: answer.model_copy(update={"failure": failure}) if name == "india" else answer
        for name, answer in first.answers.items()
    }
    ends = dict(whole.step_ends) | {
        "3[1].1": StepFinished(t=38.3, step="3[1].1", seconds=0.9, unconfirmed=("/is_sleeping says false",))
    }
    del ends["3[2].3"]
    broken = dataclasses.replace(
        whole, passes=(Pass(start=first.start, answers=answers), *whole.passes[1:]), step_ends=ends
    )
    rows = {row.what: row for row in moments(Evidence(broken))}
    assert rows["pass 1, baseline, warm: 4 answers"].trouble == ("india: no answer within 180 s",)
    assert rows["cycle 1: sleep (level 1)"].trouble == ("/is_sleeping says false",)
    assert rows["cycle 2: probe after-wake"].took == "did not end"


def test_failure_is_the_last_moment() -> None:
    """A cell that the machine stopped ends with why."""
    assert [row.kind for row in moments(Evidence(examples.failed_recording()))] == ["failure"]


def test_sleep_phases_are_what_was_observed() -> None:
    """Two cycles are two phases; one that never ended lasts until the last look."""
    whole = examples.recording()
    assert len(sleep_phases(whole)) == 2
    cut = dataclasses.replace(whole, observations=whole.observations[:2])
    (phase,) = sleep_phases(cut)
    assert phase.end == whole.observations[1].t
