"""The checkers: pure functions from the evidence to findings, registered in :data:`CHECKERS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from harness.check.checkers import (
    cache,
    changed_answers,
    conservation,
    drafts,
    kinds,
    memory_use,
    protocol,
    speed,
    state,
    unchanged_answers,
    weights,
)
from harness.check.evidence import Evidence
from harness.check.result import Cause, Finding


class About(Enum):
    """What a checker looks at, which decides what a proof from it means."""

    ANSWERS = "answers"
    """Corrupt; the controls decide the cause."""
    REQUESTS = "requests in flight"
    """Corrupt, although every probe was answered as before."""
    ENGINE = "the engine's state"
    """Degraded: answers hold, but the engine did not come back the same."""


@dataclass(frozen=True, kw_only=True)
class Checker:
    """One thing that can go wrong, and how it is found."""

    name: str
    about: About
    find: Callable[[Evidence], Iterable[Finding]]
    cause: Cause = Cause.UNKNOWN
    """What a proof from it is attributed to where every answer holds."""


_CAUSES_OF_KINDS = (Cause.TEXT, Cause.GRAMMAR, Cause.STOPS, Cause.STEERING, Cause.SCHEDULER)
"""In this order: where texts are wrong, what is held against a text is wrong as well."""

CHECKERS = (
    Checker(name="protocol", about=About.ANSWERS, find=protocol.check),
    Checker(name="noise", about=About.ANSWERS, find=changed_answers.beyond_noise),
    Checker(name="divergence", about=About.ANSWERS, find=changed_answers.divergence),
    Checker(name="repetition", about=About.ANSWERS, find=changed_answers.repetition),
    Checker(name="termination", about=About.ANSWERS, find=changed_answers.termination),
    Checker(name="adapters", about=About.ANSWERS, find=unchanged_answers.check),
    Checker(name="conservation", about=About.REQUESTS, find=conservation.check, cause=Cause.SCHEDULER),
    *(
        Checker(
            name=f"kinds: {cause}", about=About.REQUESTS, find=partial(kinds.check, cause=cause), cause=cause
        )
        for cause in _CAUSES_OF_KINDS
    ),
    Checker(name="cache", about=About.ENGINE, find=cache.check, cause=Cause.STALE_PREFIX_CACHE),
    Checker(name="unused cache", about=About.ENGINE, find=cache.unused, cause=Cause.SCHEDULER),
    Checker(name="drafts", about=About.ENGINE, find=drafts.check, cause=Cause.DRAFT_MODEL),
    Checker(name="state", about=About.ENGINE, find=state.check, cause=Cause.SCHEDULER),
    Checker(name="weights", about=About.ENGINE, find=weights.check, cause=Cause.LOST_WEIGHTS),
    Checker(name="memory", about=About.ENGINE, find=memory_use.check, cause=Cause.MEMORY),
    Checker(name="speed", about=About.ENGINE, find=speed.check, cause=Cause.SPEED),
)
"""Every checker, in the order in which findings are told; of several proofs the first is in the headline."""
