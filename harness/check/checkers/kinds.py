"""Whether requests of every kind are answered as before, and rightly.

The oracle of a kind says what is right whatever the baseline was: valid by the schema, no stop string in it.
What it finds is a proof on the noisiest engine, if the baseline's own answers satisfy it.  An answer that is
only another one proves something where nothing differed before, and where it is another one again.  Of tokens
drawn with a seed the likelihoods tell how often they may differ, on any engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.check.evidence import Evidence
from harness.check.noise.budget import Family
from harness.check.noise.equal_draws import chance
from harness.check.result import Cause, Finding, Strength
from harness.check.wording import counted
from harness.history.event_base import UNTIMELY
from harness.history.kinds import KindAnswer, KindAnswered
from harness.history.passes import Role
from harness.kinds import KINDS, Kind

_SCORES_ALIKE = 1e-2
"""nat; by how much the log-probabilities of a prompt may differ where nothing else does."""


def check(evidence: Evidence, *, cause: Cause) -> Iterator[Finding]:
    """Find kinds, among those that accuse ``cause``, whose answers are wrong, then those that are others."""
    rounds = [_Rounds(evidence, kind) for kind in KINDS.values() if kind.cause == cause.value]
    for each in rounds:
        yield from each.wrong()
    for each in rounds:
        yield from each.changed()


def told(evidence: Evidence) -> str:
    """How many kinds were judged, and how many could not be; empty where none was asked."""
    asked = {each.asks for each in evidence.recording.kinds} & KINDS.keys()
    judged = [name for name in asked if _Rounds(evidence, KINDS[name]).can_be_judged]
    if not asked:
        return ""
    left = len(asked) - len(judged)
    without = f" ({left} could not be judged)" if left else ""
    return f"{counted(len(judged), 'kind')} of requests answered rightly{without}"


class _Rounds:
    """What was answered to one kind, before and after."""

    def __init__(self, evidence: Evidence, kind: Kind) -> None:
        self._evidence = evidence
        self._kind = kind
        asked = [each for each in evidence.recording.kinds if each.asks == kind.name]
        self._baselines = {each.reference: each for each in asked if each.role is Role.BASELINE}
        self._null = [each for each in asked if each.role is Role.NULL and self._undisturbed(each)]
        self._judged = [
            each
            for each in asked
            if each.role is Role.AFTER or (each.role is Role.NULL and not self._undisturbed(each))
        ]

    @property
    def can_be_judged(self) -> bool:
        """Whether it was asked after a transition, and its answers were right before."""
        return bool(self._judged) and self._unsound() is None

    def wrong(self) -> Iterator[Finding]:
        """What is wrong by the kind's own oracle."""
        excused = self._unsound()
        beside_all = _was_sound(self._evidence)
        for each in self._judged:
            sentences = dict.fromkeys(self._kind.violations(each.answers))
            proves = not excused and not _only_late(each.answers) and (beside_all or self._alone_too(each))
            for sentence in sentences:
                yield self._finding(each, sentence, Strength.PROOF if proves else Strength.HINT)
        if excused and self._judged:
            before = next(iter(self._baselines.values()), None) or self._judged[0]
            yield self._finding(before, f"cannot be judged: before the transition, {excused}", Strength.HINT)

    def _alone_too(self, each: KindAnswered) -> bool:
        """Whether what was wrong beside requests of other kinds was wrong again without them."""
        again = [other for other in self._judged if other.again and _same_place(each, other)]
        return each.again or any(True for other in again for _ in self._kind.violations(other.answers))

    def changed(self) -> Iterator[Finding]:
        """What is another answer than the baseline's."""
        steady = self._evidence.calibration is not None and self._evidence.calibration.quiet
        steady = steady and bool(self._null) and not any(map(self._difference, self._null))
        for each in self._judged:
            if each.again or not (sentence := self._difference(each)):
                continue
            again = [other for other in self._judged if other.again and _same_place(each, other)]
            if self._kind.drawn and (told := self._drawn_otherwise(each)):
                sentence, proves = told, any(map(self._drawn_otherwise, again))
            else:
                proves = steady and any(map(self._difference, again))
            late = _only_late(each.answers)
            yield self._finding(each, sentence, Strength.PROOF if proves and not late else Strength.HINT)

    def _drawn_otherwise(self, each: KindAnswered) -> str | None:
        """That more tokens differ than likelihoods explain, in a sentence; None where chance explains it."""
        alpha = self._evidence.budget.alpha(Family.DRAWS, series=len(self._judged))
        before = self._baselines.get(each.reference)
        for one, other in zip(before.answers if before else (), each.answers, strict=False):
            differing, likely = chance(one.choices, other.choices)
            if likely <= alpha:
                return (
                    f"{differing} of {len(other.choices)} tokens drawn with the same seeds are others, which "
                    f"their likelihoods explain in {likely:.1g} of all cases"
                )
        return None

    def _unsound(self) -> str | None:
        """What is wrong before anything was done; None where the kind can be judged."""
        before = [*self._baselines.values(), *self._null]
        wrong = (sentence for each in before for sentence in self._kind.violations(each.answers))
        return next(wrong, None if before else "nothing was asked")

    def _undisturbed(self, each: KindAnswered) -> bool:
        return each.t < self._evidence.first_transition_since(each.reference)

    def _difference(self, each: KindAnswered) -> str | None:
        """How an answer differs from the baseline's, in a sentence; None where it does not."""
        before = self._baselines.get(each.reference)
        pairs = zip(before.answers if before else (), each.answers, strict=False)
        return next((found for one, other in pairs if (found := _difference(one, other))), None)

    def _finding(self, each: KindAnswered, sentence: str, strength: Strength) -> Finding:
        beside = "in flight with " if each.in_flight else ""
        where = f"{beside}{each.probe}, cycle {each.cycle}" if each.cycle else f"{beside}{each.probe}"
        return Finding(
            checker="kinds",
            message=f"{self._kind.name} ({where}): {sentence}",
            strength=strength,
            cycle=each.cycle or None,
            evidence={"kind": self._kind.name, "cause": self._kind.cause, "again": each.again},
        )


def _difference(before: KindAnswer, after: KindAnswer) -> str | None:
    if before.failure is not None or after.failure is not None:
        return None  # whatever failed is wrong already, or was not asked for in vain
    for one, other in zip(before.choices, after.choices, strict=False):
        if one.token_ids != other.token_ids:
            first = next(
                (
                    place
                    for place, pair in enumerate(zip(one.token_ids, other.token_ids, strict=False))
                    if len(set(pair)) > 1
                ),
                min(len(one.token_ids), len(other.token_ids)),
            )
            return f"another answer from token {first} on: {other.text!r} instead of {one.text!r}"
        if (one.text, one.tool_calls) != (other.text, other.tool_calls):
            return f"the same tokens read {other.text!r} instead of {one.text!r}"
        if one.finish_reason != other.finish_reason:
            return f"ended by {other.finish_reason} instead of {one.finish_reason}"
    scores = zip(before.prompt_logprobs, after.prompt_logprobs, strict=False)
    shift = max(
        (abs(one - other) for one, other in scores if one is not None and other is not None), default=0
    )
    if shift > _SCORES_ALIKE:
        return f"a token of the prompt is scored {shift:.2g} nat otherwise"
    return None


def _was_sound(evidence: Evidence) -> bool:
    """Whether requests of all kinds were answered rightly beside each other before the first transition.

    Where they were not, the engine mixes requests up whether it sleeps or not, now these and now those.
    """
    return not any(
        True
        for each in evidence.recording.kinds
        if each.asks in KINDS and each.t < evidence.first_transition_since(each.reference)
        for _ in KINDS[each.asks].violations(each.answers)
    )


def _same_place(one: KindAnswered, other: KindAnswered) -> bool:
    return (one.step, one.reference) == (other.step, other.reference)


def _only_late(answers: Sequence[KindAnswer]) -> bool:
    """Whether all that is wrong is that something came too late, which a slow engine explains."""
    failures = [answer.failure for answer in answers if answer.failure is not None]
    return bool(failures) and all(each.kind in UNTIMELY and each.kind != "hang" for each in failures)
