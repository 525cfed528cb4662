"""What tests of whole passes prove, and what they leave in doubt.

The tests of a pass take its prompts as independent of each other.  What befalls a whole pass, such as
requests that fall into other batches, moves all its answers at once, and no number of prompts makes that less
likely.  So the pass is the unit here, and there are two ways to a proof.

*What lasts.*  Noise scatters: passes lie as far from each other as from null passes, however noisy they are.
Damage lasts: two passes that lie off lie off alike.

*What is too much, too often.*  Passes may be odd now and then, whether the engine slept or not; how often is
not known.  If none of the null passes was, so many of the judged ones are with at most the probability
:func:`by_chance` gives, whatever the rate is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from harness.check.noise import limits
from harness.check.noise.exact_tests import holm
from harness.check.noise.pass_tests import JudgedPass, PassTest

ENOUGH = 2
"""Passes that must lie off in the same way, if so many were asked, however far one of them does."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A test that chance does not explain, given that there were many."""

    test: PassTest
    adjusted: float
    """The p-value after Holm's correction, to be compared with what all these tests share."""


def significant(tests: Sequence[PassTest], *, alpha: float) -> tuple[Alarm, ...]:
    """Tests whose answers chance does not explain within their pass, however small the effect is."""
    adjusted = holm([test.p_value for test in tests])
    pairs = zip(tests, adjusted, strict=True)
    return tuple(Alarm(test=test, adjusted=p) for test, p in pairs if p <= alpha)


def proven(
    found: Sequence[Alarm], *, tests: Iterable[PassTest], null_passes: int, alpha: float
) -> tuple[Alarm, ...]:
    """Those of ``found`` that odd passes, as they happen without a transition, do not explain either."""
    asked = Counter(test.name for test in tests)
    lasting = Counter(alarm.test.name for alarm in found if alarm.test.lasting > limits.MARGIN)
    material = Counter(alarm.test.name for alarm in found if alarm.test.material)
    gross = Counter(alarm.test.name for alarm in found if alarm.test.effect > limits.GROSS)

    def is_proven(alarm: Alarm) -> bool:
        test, name = alarm.test, alarm.test.name
        if not test.moves_with_a_pass or (test.lasting > limits.MARGIN and lasting[name] >= ENOUGH):
            return True
        return test.material and (
            gross[name] >= min(ENOUGH, asked[name])
            or by_chance(null=null_passes, judged=asked[name], odd=material[name]) <= alpha
        )

    return tuple(filter(is_proven, found))


def by_chance(*, null: int, judged: int, odd: int) -> float:
    """How likely none of ``null`` passes is odd and ``odd`` of ``judged`` are, at the worst of all rates."""
    rates = np.linspace(0.0, 1.0, 1001)
    others = 1.0 - rates
    so_many = sum(
        comb(judged, count) * rates**count * others ** (judged - count) for count in range(odd, judged + 1)
    )
    return float(np.max(others**null * so_many))


def null_passes_of(passes: Iterable[JudgedPass]) -> int:
    """How many null passes the judged ones are held against, all together."""
    return len(
        {
            track.reply.start.number
            for judged in passes
            for row in judged.rows
            for track in row.pool.null[: judged.null]
        }
    )


def doubts(found: Sequence[Alarm], *, passes: int) -> str | None:
    """What cannot be told apart: small damage everywhere, and passes that are odd by themselves.

    Passes are odd now and then; most are, only of a damaged engine.
    """
    notable = {alarm.test.start.number for alarm in found if alarm.test.notable}
    odd = [alarm.test for alarm in found if alarm.test.odd and alarm.test.moves_with_a_pass]
    numbers = {test.start.number for test in odd}
    if odd and len(numbers) >= min(ENOUGH, passes):
        furthest = max(test.effect for test in odd)
        return (
            f"in {len(numbers)} of {passes} passes answers deviate together, up to {furthest:.2g} times as "
            "far as in the noisiest null pass, but neither alike nor so far in so many that it proves damage"
        )
    if len(notable) >= ENOUGH and 2 * len(notable) > passes:
        return (
            f"in {len(notable)} of {passes} passes answers deviate together, more than chance "
            "explains but no further than rounding might"
        )
    return None
