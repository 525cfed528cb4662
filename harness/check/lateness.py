"""What an answer that did not come in time says: that the engine hangs, or that it is slow.

Time alone accuses nobody.  A request was lost where the engine stood still meanwhile; where it went on, the
machine may have been busy, and all that can be said is what deadline it would have taken.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.evidence import Evidence
from harness.check.wording import counted
from harness.history.event_base import CallFailure
from harness.history.passes import Control, Waited

STANDSTILL_S = 60.0
"""How long counters alone must have stood still, in all, to prove a hang."""

MUCH_LONGER = 10.0
"""How many times as long as the slowest answer before anything happened."""

NEARLY_ALL = 0.9
"""Of a wait; a look a second does not see its very beginning."""

AT_WORK = 0.5
"""Cores that an engine uses which lacks none: less may be all that a busy machine gave it."""


def is_hang(evidence: Evidence, failure: CallFailure, *, pass_number: int | None) -> bool:
    """Whether a request without an answer in time was lost: the engine was seen to stand still.

    Where its processes could not be seen, or turned in circles, its counters must have stood still all the
    time, and so must they when it was asked again, for the same and for something else; all of that for much
    longer than any answer took before.
    """
    if failure.kind == "hang":
        return True
    if failure.kind != "timeout":
        return False
    asked_again = {
        each.start.number
        for each in evidence.recording.passes
        if each.start.control in {Control.SAME_AGAIN, Control.CANARY}
    }
    waits = {wait.pass_number: wait for wait in evidence.recording.waits}
    if not asked_again or not {pass_number, *asked_again} <= waits.keys():
        return False
    seen = [waits[number] for number in {pass_number, *asked_again}]
    before = (reply.answer for reply in (*evidence.baseline_replies, *evidence.null_replies))
    longest = max((answer.seconds for answer in before if answer.failure is None), default=0.0)
    return all(map(_counted_nothing, seen)) and sum(wait.seconds for wait in seen) >= max(
        STANDSTILL_S, MUCH_LONGER * longest
    )


def _counted_nothing(wait: Waited) -> bool:
    starved = wait.cpu_seconds is not None and wait.cpu_seconds < AT_WORK * wait.seconds
    still = wait.counters_still_seconds >= NEARLY_ALL * wait.seconds
    return wait.generated_tokens == 0 and still and not starved


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Say which answers came too late to be judged, and what deadline they take; and which calls did."""
    if late := _late(evidence):
        waits = [wait for wait in evidence.recording.waits if wait.pass_number in late]
        lost = evidence.lost_times
        # Requests beside the script do not tell when they were waited for: any stop may explain them.
        meanwhile = f"; {lost.stopped} meanwhile" if lost.stops and late.keys() & {*lost.passes, None} else ""
        yield (
            f"{counted(sum(late.values()), 'request')} had no answer in time, which a slow engine explains "
            f"as well as a broken one: {_what_it_did(waits)}{meanwhile}"
        )
    for call in evidence.lost_times.unanswered_calls:
        yield (
            f"{call.method} {call.path} had no answer in time, and {evidence.lost_times.stopped} meanwhile: "
            "run it again"
        )


def _late(evidence: Evidence) -> dict[int | None, int]:
    """How many judged requests were too late, by the pass they came in; None: beside the script."""
    late: dict[int | None, int] = {}
    for reply in evidence.failed:
        failure, number = reply.answer.failure, reply.start.number
        if failure and failure.kind == "timeout" and not is_hang(evidence, failure, pass_number=number):
            late[number] = late.get(number, 0) + 1
    for request in evidence.recording.requests:
        failure = request.end.failure if request.end else None
        if failure and failure.kind == "timeout":
            late[None] = late.get(None, 0) + 1
    return late


def _what_it_did(waits: list[Waited]) -> str:
    if not waits:
        return "the recording does not tell whether it went on; run the cell again"
    paces = [wait.would_take_seconds for wait in waits if wait.would_take_seconds]
    if paces:
        tokens = sum(wait.generated_tokens or 0 for wait in waits)
        watched = sum(wait.seconds for wait in waits)
        return (
            f"it went on, with {counted(tokens, 'token')} in {watched:.0f} s, and would take about "
            f"{max(paces):.0f} s for all; raise the deadline"
        )
    longest = max(waits, key=lambda wait: wait.counters_still_seconds)
    if longest.cpu_seconds is None:
        return (
            f"it counted nothing for {longest.counters_still_seconds:.0f} s, and its processes cannot be "
            "seen; raise the deadline"
        )
    return (
        f"it counted nothing for {longest.counters_still_seconds:.0f} s, but its processes used "
        f"{longest.cpu_seconds:.0f} s of processor time; raise the deadline"
    )
