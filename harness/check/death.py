"""Whether the engine died, and after which transition."""

from __future__ import annotations

from harness.check.comparison import Reply
from harness.check.evidence import Evidence
from harness.check.state import describe
from harness.check.wording import counted
from harness.history.events import Call

DEAD_ENGINE = "EngineCore encountered an issue"
"""What vLLM says of an engine that is gone (EngineDeadError, vllm/v1/engine/exceptions.py)."""


def of_the_engine(evidence: Evidence) -> str | None:
    """Say after which transition the engine died; None where it lives, or nothing tells that it died.

    It died where no judged request is answered any more from one on, and one of them found nobody
    to answer: a server that is gone, or one that says so of its engine.
    """
    judged = sorted(evidence.after_replies, key=lambda reply: reply.answer.t)
    first = next((number for number, reply in enumerate(judged) if reply.answer.failure), len(judged))
    unanswered = judged[first:]
    if not all(reply.answer.failure for reply in unanswered) or not any(map(_nobody_there, unanswered)):
        return None
    began = unanswered[0].start.t
    before = [step for step in evidence.transitions if step.t < began]
    if not before:
        return None
    blamed = before[-1]
    call = next((each for each in reversed(evidence.recording.calls) if each.step == blamed.step), None)
    if call is not None and call.failure is not None and call.failure.kind == "connection":
        return f"the engine died during {describe(blamed)}"
    answered = sum(reply.answer.t > blamed.t for reply in judged[:first])
    moment = f"after {counted(answered, 'answer')}, the first" if answered else "at the first request"
    return f"the engine died {moment} after {describe(blamed)}{_what_it_said(call)}"


def _nobody_there(reply: Reply) -> bool:
    failure = reply.answer.failure
    return failure is not None and (failure.kind == "connection" or DEAD_ENGINE in failure.message)


def _what_it_said(call: Call | None) -> str:
    if call is None or call.status is None:
        return ""
    return f", which it had {'answered' if call.failure is None else 'refused'} with status {call.status}"
