"""What the engine itself counted of the time that things took, beside our own clock.

Its histograms are read whenever it is looked at; of two looks the difference is what came in between.  What
is slow by our clock alone is not in the engine.
"""

from __future__ import annotations

from harness.history.recording import Recording


def engine_seconds(recording: Recording, what: str, *, begin: float, end: float) -> float | None:
    """How long each of ``what`` took on average, by the engine's own count, between looks around two moments.

    Args:
        recording: Where it was looked at.
        what: A name of :data:`harness.vllm_api.versions.TIMED`.
        begin: After the first of the two looks.
        end: Before the second.

    Returns:
        None where it was not looked at around them, does not count that, or counted none.
    """
    looks = [look for look in recording.observations if f"{what}_seconds" in look.counters]
    before = next((look.counters for look in reversed(looks) if look.t <= begin), None)
    after = next((look.counters for look in looks if look.t >= end), None)
    if before is None or after is None:
        return None
    number = after[f"{what}_count"] - before[f"{what}_count"]
    seconds = after[f"{what}_seconds"] - before[f"{what}_seconds"]
    return seconds / number if number > 0 and seconds >= 0 else None
