"""What a search has found, and how a finding is known again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.check.result import Cause, CellResult, Strength, Verdict
from harness.errors import UsageError
from harness.explore.fuzz.in_words import words
from harness.explore.fuzz.overlapping import has_odd_tags
from harness.explore.fuzz.sequences import counts
from harness.history.files import replace_json
from harness.scenario.script import Step
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.lifecycle import Sleep, WakeUp
from harness.scenario.steps.requests import StartRequests

_OF_THE_MACHINE = frozenset({Cause.MEMORY, Cause.SPEED})
"""Too few answers are asked to judge these by."""

DIED = "the engine died"
HANGS = "the engine hangs"
WRONG_ANSWERS = "wrong answers"
LOST_REQUESTS = "requests lost"
WRONG_STATE = "wrong state"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a sequence failed: two failures are of one kind if these are equal."""

    kind: str
    cause: str
    invariant: str = ""
    """Of a wrong state: what must hold and does not, without numbers and names."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What makes two findings the same: how it failed, and after which calls."""

    kind: str
    cause: str
    calls: tuple[str, ...]
    invariant: str = ""

    def explains(self, failure: Failure, steps: Sequence[Step]) -> bool:
        """Whether a failure is this one again: it failed so, and all these calls were made in this order."""
        return self.failure == failure and self.is_in(steps)

    @property
    def failure(self) -> Failure:
        """How it failed."""
        return Failure(kind=self.kind, cause=self.cause, invariant=self.invariant)

    def is_in(self, steps: Sequence[Step]) -> bool:
        """Whether all these calls are made in this order."""
        with_requests = any(call.startswith("start_requests") for call in self.calls)
        made = iter(_gists(steps, with_requests=with_requests))
        return all(call in made for call in self.calls)

    @property
    def told(self) -> str:
        """It in a line."""
        invariant = f", {self.invariant}" if self.invariant else ""
        return f"{self.kind} ({self.cause}{invariant}) after {', '.join(self.calls)}"


_SIGNATURES = TypeAdapter(list[Signature])


def signature(failure: Failure, steps: Sequence[Step]) -> Signature:
    """The signature of a minimal sequence."""
    return Signature(kind=failure.kind, cause=failure.cause, calls=gists(steps), invariant=failure.invariant)


def gists(steps: Sequence[Step]) -> tuple[str, ...]:
    """What the calls among ``steps`` come to: what becomes of requests matters only where there are some."""
    return _gists(steps, with_requests=any(isinstance(step, StartRequests) for step in steps))


def _gists(steps: Sequence[Step], *, with_requests: bool) -> tuple[str, ...]:
    return tuple(_gist(step, with_requests=with_requests) for step in steps if counts(step))


def _gist(step: Step, *, with_requests: bool) -> str:
    if isinstance(step, Concurrently):
        return " beside ".join(member.key() for member in step.concurrently)
    if step.abandoned is not None:
        return f"{step.key()} given up"
    if isinstance(step, WakeUp) and has_odd_tags(step):
        return "wake_up by odd tags"
    if isinstance(step, Sleep) and not with_requests:
        return f"sleep level={step.sleep.level}"
    action, *options = words(step).split(" ")
    about = ("name=", "tags=", "expect=", "same_as=", "must_fail=")
    told = [each for each in options if not each.startswith(about)]
    if not with_requests:
        told = [each for each in told if not each.startswith("mode=")]
    return " ".join([action, *told])


def failure_in(result: CellResult) -> Failure | None:
    """How a judged sequence failed; None where it held, or where the recording cannot tell."""
    if result.error == "ServerDiedError":
        return Failure(kind=DIED, cause=Cause.SCHEDULER.value)
    if result.verdict not in {Verdict.CORRUPT, Verdict.DEGRADED} or result.cause in _OF_THE_MACHINE:
        return None
    cause = (result.cause or Cause.UNKNOWN).value
    kind = _kind(result)
    return Failure(kind=kind, cause=cause, invariant=_invariant(result) if kind == WRONG_STATE else "")


def _invariant(result: CellResult) -> str:
    """What is contradicted first, without the step that shows it, numbers and names.

    Of several orders none of which explains what is seen, it is what the nearest one leaves unexplained.
    """
    told = next((each.message for each in result.findings if each.checker == "state"), "")
    _, _, contradiction = told.partition(": ")
    _, _, seen = contradiction.partition("what is seen: ")
    invariant, _, _ = (seen or contradiction).partition(", as if ")
    return re.sub(r"'[^']*'", "NAME", re.sub(r"\b\d+(?:\.\d+)?", "N", invariant))


def _kind(result: CellResult) -> str:
    proofs = [finding for finding in result.findings if finding.strength is Strength.PROOF]
    checkers = {finding.checker for finding in proofs}
    if any("no answer within" in finding.message for finding in proofs):
        return HANGS
    if result.verdict is Verdict.DEGRADED:
        return WRONG_STATE
    return LOST_REQUESTS if checkers <= {"conservation", "state", "memory", "speed"} else WRONG_ANSWERS


class KnownFindings:
    """The signatures found so far, in this search and before; those that last are kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self._lasting = list(self._known)

    def __iter__(self) -> Iterator[Signature]:
        return iter(self._known)

    def explaining(self, failure: Failure, steps: Sequence[Step]) -> Signature | None:
        """The known finding that a failure is again; None where it is new."""
        return next((known for known in self._known if known.explains(failure, steps)), None)

    def is_in(self, steps: Sequence[Step]) -> bool:
        """Whether a sequence makes all the calls of one that is known."""
        return any(known.is_in(steps) for known in self._known)

    def would_cost_an_engine(self, steps: Sequence[Step]) -> bool:
        """Whether a sequence makes the calls after which an engine is known to die or to hang."""
        return any(known.kind in {DIED, HANGS} and known.is_in(steps) for known in self._known)

    def add(self, found: Signature) -> None:
        """Remember one for this search."""
        self._known.append(found)

    def keep(self, found: Signature) -> None:
        """Remember one for later searches as well, on disk at once."""
        self._lasting.append(found)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_json(self._path, {"findings": _SIGNATURES.dump_python(self._lasting, mode="json")})


def _read(path: Path) -> list[Signature]:
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _SIGNATURES.validate_python(content["findings"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UsageError(
            f"{path}: no file of known findings: {error}", remedy="name another with --known, or remove it"
        ) from error
