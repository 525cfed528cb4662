"""Whether every request that ran across a transition ended exactly once, in time, and as it had to.

One that was alone after it has to be answered, no more: what it says is compared by others.

Answers are held to the baseline's only where the measured noise leaves tokens alone; elsewhere a
difference is a hint, because requests in flight are computed in other company than the baseline's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import JsonValue

from harness.check.answer_pair import common_prefix
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted, describe
from harness.history.events import FirstTokenMissing
from harness.history.observations import Observation, StepStarted
from harness.history.passes import Answer, Method, RequestEnded
from harness.history.recording import InFlight

ABORTED = "abort"
"""vLLM's finish reason of a request that the engine ended itself."""

ON_ITS_WAY_S = 0.25
"""How long a call may take to reach the requests that it aborts; one that ends meanwhile has won a race."""


def check(evidence: Evidence) -> tuple[Finding, ...]:
    """Find requests that were lost or ended twice or wrongly, and any the engine still counts."""
    violations = (
        _finding(fate, message, strength, facts)
        for fate in _fates(evidence)
        for message, strength, facts in fate.violations()
    )
    return (*violations, *_lost_alone(evidence), *_still_counted(evidence))


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Say which requests put nothing to the test, as they had ended before anything happened or were late."""
    groups: dict[str, list[_Fate]] = {}
    for fate in _fates(evidence):
        if fate.transition is not None:
            groups.setdefault(f"{fate.request.start.group}, step {fate.request.start.step}", []).append(fate)
    for group, fates in groups.items():
        if all(fate.ended_before_the_transition for fate in fates):
            yield (
                f"the requests {group} ended before the transition they were meant to overlap: "
                "raise sampling.max_tokens"
            )
    for each in _missing_since(evidence):
        if each.failure.kind == "timeout":
            yield (
                f"{each.prompt}, asked for one token alone after the transition, had no answer "
                f"({each.failure.message}): raise deadlines.answer, or find out what became of it"
            )


@dataclass(frozen=True, eq=False)
class _Fate:
    """One request, what the script expected of it and what became of it."""

    evidence: Evidence
    request: InFlight
    ending: StepStarted | None
    """The step that ended it."""

    def violations(self) -> Iterator[tuple[str, Strength, Mapping[str, JsonValue]]]:
        """What it did that no request may, or that this one should not have."""
        end = self.request.end
        if end is None:
            if self.evidence.recording.finished:
                yield "never ended", Strength.PROOF, {}
            return
        if len(self.request.ends) > 1:
            yield f"ended {len(self.request.ends)} times", Strength.PROOF, {}
        facts = _facts(end)
        for message in _broken(end):
            yield message, self._strength_of_a_break(end), facts
        if end.failure is None and not end.client_left:
            yield from ((message, strength, facts) for message, strength in self._unexpected(end))

    def _strength_of_a_break(self, end: RequestEnded) -> Strength:
        """Proof, but of a request that was only given up: a slow engine explains that."""
        late = end.failure is not None and end.failure.kind == "timeout"
        return Strength.HINT if late else Strength.PROOF

    @cached_property
    def transition(self) -> StepStarted | None:
        """The first transition that it was in flight across, by the script."""
        until = self.ending.t if self.ending else float("inf")
        between = (step for step in self.evidence.transitions if self.request.start.t < step.t < until)
        return next(between, None)

    @property
    def ended_before_the_transition(self) -> bool:
        """Whether it was over when the transition came."""
        end = self.request.end
        return end is not None and self.transition is not None and end.t < self.transition.t

    @property
    def _ended_before_the_call(self) -> bool:
        """Whether it was over when the transition's call reached it: a look at the engine comes first."""
        end, transition = self.request.end, self.transition
        if end is None or transition is None:
            return False
        calls = (call for call in self.evidence.recording.calls if call.step == transition.step)
        sent = min((call.t - call.seconds for call in calls), default=transition.t)
        return end.t < sent + ON_ITS_WAY_S

    @property
    def _expected(self) -> JsonValue:
        return self.ending.options.get("expect") if self.ending else None

    @cached_property
    def _baseline(self) -> Answer | None:
        """Its baseline's answer to the prompt: computed, as this one is under a salt of its own."""
        reference = self.request.start.reference or self.evidence.first_reference
        replies = [
            reply
            for reply in self.evidence.baseline.get(self.request.start.prompt, ())
            if reply.start.method is Method.GENERATED and reply.start.reference == reference
        ]
        return min(replies, key=lambda reply: reply.cached).answer if replies else None

    def _unexpected(self, end: RequestEnded) -> Iterator[tuple[str, Strength]]:
        reason = end.finish_reasons[0] if end.finish_reasons else None
        if reason is None:
            # An engine that aborts what has not begun has no token to put the reason beside.
            without_begin = self._expected in {"aborted", "ended"} and not end.token_ids
            yield "ended without a finish reason", Strength.HINT if without_begin else Strength.PROOF
        elif self._expected == "same" and reason == ABORTED:
            yield f"was aborted after {counted(len(end.token_ids), 'token')}", Strength.PROOF
        elif self._expected == "aborted" and reason != ABORTED and not self._ended_before_the_call:
            yield f"should have been aborted but ended with {reason!r}", Strength.PROOF
        if self._expected in {"same", "aborted"}:
            yield from self._other_tokens(end, whole=self._expected == "same" and reason != ABORTED)

    def _other_tokens(self, end: RequestEnded, *, whole: bool) -> Iterator[tuple[str, Strength]]:
        """Where its tokens part from the baseline's; one that was aborted has only the first of them."""
        if self._baseline is None:
            return
        expected = self._baseline.token_ids if whole else self._baseline.token_ids[: len(end.token_ids)]
        if end.token_ids == expected:
            return
        first = common_prefix(expected, end.token_ids)
        floor = self.evidence.floor
        strength = Strength.PROOF if floor is not None and not floor.reworded else Strength.HINT
        yield f"differs from the undisturbed answer from token {first} on", strength


def _fates(evidence: Evidence) -> Iterator[_Fate]:
    steps = evidence.recording.steps
    for request in evidence.recording.requests:
        ending = next(
            (
                step
                for step in steps
                if step.t >= request.start.t
                and step.action in {"finish_requests", "cancel_requests"}
                and step.options.get("name") == request.start.group
            ),
            None,
        )
        yield _Fate(evidence, request, ending)


def _broken(end: RequestEnded) -> Iterator[str]:
    """What no stream may do."""
    if end.failure is not None:
        yield f"failed: {end.failure.message}"
    if len(end.finish_reasons) > 1:
        yield f"has {len(end.finish_reasons)} finish reasons: {', '.join(end.finish_reasons)}"
    if end.tokens_after_end:
        yield f"got {counted(end.tokens_after_end, 'token')} after its end"
    if end.completion_tokens is not None and end.completion_tokens != len(end.token_ids):
        yield f"got {counted(len(end.token_ids), 'token')}, but usage says {end.completion_tokens}"


def _facts(end: RequestEnded) -> Mapping[str, JsonValue]:
    return {
        "tokens": len(end.token_ids),
        "finish_reason": end.finish_reasons[0] if end.finish_reasons else None,
        "seconds": round(end.seconds, 3),
    }


def _finding(fate: _Fate, message: str, strength: Strength, facts: Mapping[str, JsonValue]) -> Finding:
    start = fate.request.start
    step = fate.evidence.recording.action_of_step.get(start.step)
    across = f" across {describe(fate.transition)}" if fate.transition else ""
    asked = f" to the adapter {start.adapter}" if start.adapter else ""
    return Finding(
        checker="conservation",
        message=f"{start.prompt}{asked}, in flight{across}: {message}",
        strength=strength,
        prompt=start.prompt,
        cycle=step.cycle if step else None,
        evidence={"requests": start.group, "step": start.step, **facts},
    )


def _lost_alone(evidence: Evidence) -> Iterator[Finding]:
    """Requests that were alone after a transition and were not answered, as those before it were."""
    for each in _missing_since(evidence):
        yield Finding(
            checker="conservation",
            message=f"{each.prompt}, asked for one token alone: {each.failure.message}",
            strength=Strength.HINT if each.failure.kind == "timeout" else Strength.PROOF,
            prompt=each.prompt,
            evidence={"step": each.step, "seconds": round(each.seconds, 3)},
        )


def _missing_since(evidence: Evidence) -> tuple[FirstTokenMissing, ...]:
    """Those that were lost after the first transition; none where one was lost before it."""
    missing = evidence.recording.first_tokens_missing
    return () if any(each.t < evidence.first_transition for each in missing) else missing


def _still_counted(evidence: Evidence) -> Iterator[Finding]:
    """Requests the engine counts although all have ended.

    Its gauges rest while nothing is scheduled (vllm/v1/metrics/loggers.py), so only what they
    say after a probe counts, and there is no finding if they ever returned to nothing.
    """
    requests = evidence.recording.requests
    last_end = max((request.end.t for request in requests if request.end), default=None)
    if last_end is None:
        return
    looks = [
        _counted(seen)
        for seen in evidence.recording.observations
        if seen.t > last_end and seen.moment == "after" and _is_probe(evidence, seen)
    ]
    told = [each for each in looks if each is not None]
    if told and all(told):
        yield Finding(
            checker="conservation",
            message=f"the engine still counts {counted(int(min(told)), 'request')} although all have ended",
            strength=Strength.PROOF,
            evidence={"requests_running_and_waiting": min(told)},
        )


def _is_probe(evidence: Evidence, seen: Observation) -> bool:
    step = evidence.recording.action_of_step.get(seen.step or "")
    return step is not None and step.action == "probe"


def _counted(seen: Observation) -> float | None:
    running = seen.counters.get("requests_running")
    waiting = seen.counters.get("requests_waiting")
    return None if running is None or waiting is None else running + waiting
