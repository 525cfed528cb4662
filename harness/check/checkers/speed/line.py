"""How speed was judged, in one line: what was lost, how busy the machine was, and what could still hide."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.checkers.speed import few_cycles, first_token, once_awake
from harness.check.checkers.speed.first_token import first_tokens
from harness.check.checkers.speed.once_awake import LEAST_PASSES, paces
from harness.check.evidence import Evidence
from harness.check.timing import machine_load
from harness.history.passes import Role
from harness.history.recording import Recording


def told(evidence: Evidence) -> str:
    """Say how speed was judged; empty where a recording does not tell more than its times."""
    return "; ".join(_parts(evidence))


def _parts(evidence: Evidence) -> Iterator[str]:
    if evidence.lost_times.stops:
        yield evidence.lost_times.sentence
    if load := _load(evidence.recording):
        yield load
    yield from _judged(evidence)


def _judged(evidence: Evidence) -> Iterator[str]:
    """What of an engine's speed was judged, and what would not have shown."""
    if not evidence.after_replies:
        return
    passes = paces(evidence)
    kept = passes.after.keys() - evidence.lost_times.passes if passes else ()
    if passes is None or passes.unjudged or len(kept) < LEAST_PASSES:
        because = (passes and passes.unjudged) or "too few times are left"
        yield f"a token's time is not judged, because {because}"
        return
    hidden = [f"a token under {once_awake.SLOWER * passes.slowest_before * 1000:.0f} ms"]
    before, after = first_tokens(evidence)
    if before and len(after) >= first_token.LEAST_TIMES:
        hidden.append(f"a first token under {first_token.limit(before):.2f} s")
    hidden.append(f"calls that rise by less than {few_cycles.LEAST_SECONDS_MORE:g} s")
    yield f"would go unnoticed: {', '.join(hidden[:-1])} and {hidden[-1]}"


def _load(recording: Recording) -> str:
    if recording.server is not None and recording.server.runtime == "attached":
        return "its machine is not seen, so how busy others kept it is not known"
    before = _others(recording, {Role.BASELINE, Role.NULL})
    judged = _others(recording, {Role.AFTER})
    if before is None or judged is None:
        return ""
    return (
        f"other processes used {judged:.0%} of the machine's processors while answers were judged, "
        f"{before:.0%} before"
    )


def _others(recording: Recording, roles: set[Role]) -> float | None:
    numbers = {each.number for each in recording.passes if each.start.role in roles}
    return machine_load.of_passes(recording, numbers).others
