"""What keeps a recording from being called clean although nothing in it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from harness.check import lateness
from harness.check.checkers import conservation, protocol, speed, state
from harness.check.diagnosis import broken_baseline, unread_cache
from harness.check.evidence import Evidence
from harness.check.result import Lack
from harness.check.wording import counted, occasion
from harness.history.event_base import UNTIMELY
from harness.history.events import CERTAIN
from harness.history.passes import Control, Role
from harness.history.recording import Recording


class Obstacle(NamedTuple):
    """One reason to withhold a verdict, with what would settle it."""

    lack: Lack
    sentence: str


def find(evidence: Evidence) -> tuple[Obstacle, ...]:
    """Every reason to withhold a verdict, the weightiest first."""
    if unavailable := evidence.recording.unavailable:
        lacking = ", ".join(unavailable.lacking)
        return (Obstacle(Lack.RELEASE, f"not available in vLLM {unavailable.vllm_version}: {lacking}"),)
    if not evidence.recording.finished:
        stopped = "the recording stops before the end of the script: run the cell again"
        return (Obstacle(Lack.RECORDING, stopped),)
    if evidence.recording.skipped:
        return (Obstacle(Lack.SCRIPT, _left_out(evidence.recording)),)
    return tuple(
        Obstacle(lack, sentence)
        for lack, sentences in (
            (Lack.DAMAGED_LATER, _left_damaged(evidence)),
            (Lack.RECORDING, _missing(evidence)),
            (Lack.BASELINE, _unsound_baseline(evidence)),
            (Lack.SCRIPT, _nothing_happened(evidence)),
            (Lack.RECORDING, state.obstacles(evidence)),
            (Lack.SCRIPT, conservation.obstacles(evidence)),
            (Lack.TIME, lateness.obstacles(evidence)),
            (Lack.TIME, speed.obstacles(evidence)),
            (Lack.LONE_ANSWER, _lone_answer(evidence)),
            (Lack.NOISE, _noise(evidence)),
            (Lack.CACHE, unread_cache.obstacles(evidence)),
        )
        for sentence in sentences
    )


def _left_damaged(evidence: Evidence) -> Iterator[str]:
    if told := evidence.recording.left_damaged:
        yield (
            f"the server it handed over to {told.next_cell} was damaged ({told.because}): add probes "
            "after the transition, including rehit and cold evidence"
        )


def _left_out(recording: Recording) -> str:
    if recording.skipped_because == CERTAIN:
        return "part of the script was skipped because of a proof that is missing: run with --thorough"
    return f"{counted(len(recording.skipped), 'step')} left out: {recording.skipped_because}"


def _missing(evidence: Evidence) -> Iterator[str]:
    if evidence.missing:
        start, prompt = evidence.missing[0]
        yield (
            f"{counted(len(evidence.missing), 'answer')} missing from the recording, first "
            f"{prompt.id} ({occasion(start)}): run the cell again"
        )


def _unsound_baseline(evidence: Evidence) -> Iterator[str]:
    if not evidence.baseline:
        yield "there is no baseline to compare with: begin the script with a probe the server can answer"
        return
    before = (*evidence.baseline_replies, *evidence.null_replies)
    late = [reply for reply in before if reply.answer.failure and reply.answer.failure.kind in UNTIMELY]
    if late:
        yield (
            f"{counted(len(late), 'request')} were not answered in time, before anything was tested: "
            "raise the answer deadline or use a faster server"
        )
    violations = protocol.baseline_violations(evidence)
    if violations:
        yield f"the baseline itself is unsound ({violations[0]}): fix that first"
    torn = next((each for each in evidence.null if each.same_tokens and not each.same_ending), None)
    if torn is not None:
        yield (
            f"the baseline itself is unsound ({torn.prompt.id}, {occasion(torn.reply.start)}: the same "
            "tokens have two different endings): fix that first"
        )
    yield from broken_baseline.obstacles(evidence)
    yield from (f"{each.sentence}; this is not about sleep" for each in evidence.disagreements)
    if evidence.unmatched:
        reply = evidence.unmatched[0]
        yield (
            f"{counted(len(evidence.unmatched), 'answer')} without a counterpart in the baseline "
            f"({reply.answer.prompt}, {occasion(reply.start)}): probe the baseline at the same concurrency"
        )


def _nothing_happened(evidence: Evidence) -> Iterator[str]:
    if not evidence.transitions:
        yield "the script contains no transition, so nothing was tested"
    elif not any(each.start.role is Role.AFTER for each in evidence.recording.passes):
        yield "no probe follows a transition: add one to the script"
    lacking = dict.fromkeys(call for _, call in state.unavailable_calls(evidence))
    if lacking:
        yield (
            f"the server lacks what the script needs ({', '.join(lacking)}): "
            "start it with VLLM_SERVER_DEV_MODE=1"
        )


def _noise(evidence: Evidence) -> Iterator[str]:
    if evidence.disagreements:
        return  # what looks like noise, and any advice against it, follows from these
    if evidence.calibration is not None:
        yield from evidence.calibration.obstacles()
        return
    after = evidence.after
    differing = sum(not pair.identical for pair in after)
    if differing:
        yield (
            f"{differing} of {counted(len(after), 'answer')} differ, but the noise was not "
            "measured: add a null_transition before the first transition"
        )


def _lone_answer(evidence: Evidence) -> Iterator[str]:
    lone = evidence.lone_answer
    if lone is None:
        return
    again = evidence.control(Control.ASKED_AGAIN)
    when = "it was right when it was asked again" if again else "it was not asked again"
    yield (
        f"a single answer of {len(evidence.after)} is not the baseline's ({lone.prompt.id}, "
        f"{occasion(lone.reply.start)}), no other joins it, and {when}: run the cell again, with more cycles"
    )
