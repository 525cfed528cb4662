"""Telling damage from noise, calibrated on the recording's own null transitions.

Two kinds of evidence count.  A *gross* answer lies so much further off than every null
answer that it is damage on its own.  An *alarm* is a whole pass whose answers lie off
together in a way chance does not explain, and passes that are odd by themselves do not either; all
tests of all passes of a cell share what the budget of the run leaves them (Holm 1979).

Where the engine computes finely and nothing differed before the transition by more than the
order of float32 additions, the recording is *quiet*: any visible difference is gross then, and
a single null answer a prompt suffices.  So is it where the engine computes coarsely, but answers one
request at a time and did so alike, bit by bit, in all of several null passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from harness.check.answer_pair import Reply
from harness.check.noise import confirmation, limits
from harness.check.noise.budget import OF_ONE_CELL, ErrorBudget, Family
from harness.check.noise.confirmation import Alarm
from harness.check.noise.null_answers import NullAnswers, Pool, Row, resolution_of
from harness.check.noise.pass_tests import TESTS_OF_A_PASS, JudgedPass, PassTest, tests_of
from harness.check.result import Finding, Strength
from harness.check.wording import finding_about, occasion

CONTROL_ALPHA = 1e-2
"""Below this a control pass still shows damage: here a miss would name a wrong cause."""


def prompts_in_noise(judged_passes: int, *, budget: ErrorBudget = OF_ONE_CELL) -> int:
    """How many prompts it takes, where answers differ by themselves, before anything could alarm."""
    tests = TESTS_OF_A_PASS * max(1, judged_passes)
    return limits.prompts_needed(
        columns=limits.LEAST_NULL_ANSWERS + 1, alpha=budget.alpha(Family.TOGETHER) / tests
    )


class Calibration:
    """Everything that is held against the noise in one recording."""

    def __init__(
        self,
        *,
        judged: Sequence[Reply],
        null_answers: NullAnswers,
        in_float32: bool | None = None,
        budget: ErrorBudget = OF_ONE_CELL,
    ) -> None:
        self._judged_replies = judged
        self._in_float32 = in_float32
        self._null_answers = null_answers
        self._budget = budget

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Every judged answer the baseline has a counterpart for, beside its null answers."""
        return tuple(self._null_answers.rows(self._judged_replies))

    @cached_property
    def reproducible(self) -> bool:
        """Whether every answer came again bit by bit before anything happened, and must therefore after it.

        That takes requests that were alone, so that none can fall into another batch, and null answers that
        had as much of their prompt from the cache: another part computed is computed in other shapes.
        """
        return bool(self.rows) and all(
            row.track.reply.start.concurrency == 1
            and row.pool.spread == 0.0
            and len(row.pool.null) >= limits.LEAST_NULL_ANSWERS
            and row.track.reply.cached in {null.reply.cached for null in row.pool.null}
            for row in self.rows
        )

    @cached_property
    def resolution(self) -> float:
        """The largest shift that rounding alone explains, nat."""
        if self.reproducible:
            return limits.RESOLUTION
        return resolution_of(self._pools)

    @cached_property
    def quiet(self) -> bool:
        """Whether nothing before the transition differed by more than the order of additions explains."""
        return _are_quiet(self._null_answers.pools.values(), resolution=self.resolution)

    @cached_property
    def knows_noise(self) -> bool:
        """Whether a further null transition could tell nothing that a verdict needs."""
        pools = [pool for pool in self._null_answers.pools.values() if pool.null]
        quiet = _are_quiet(pools, resolution=resolution_of(pools))
        least = 1 if quiet else limits.LEAST_NULL_ANSWERS
        return bool(pools) and all(len(pool.null) >= least for pool in pools)

    @cached_property
    def gross_limit(self) -> float:
        """How far any single answer may lie off, nat."""
        return self._largest(self._gross_limits)

    @cached_property
    def _coarseness(self) -> float:
        """The same, by what the noise is like and not by how often was checked."""
        if not self._budget.in_turn:
            return self.gross_limit
        return self._largest(self._limits_at(self._budget.of_first_check))

    def _largest(self, found: Mapping[bool, float]) -> float:
        return max(found.values(), default=limits.GROSS * self.resolution)

    @cached_property
    def _gross_limits(self) -> Mapping[bool, float]:
        """The limit where tokens were decoded, and where they were not: a prefill rounds otherwise."""
        return self._limits_at(self._budget)

    def _limits_at(self, budget: ErrorBudget) -> Mapping[bool, float]:
        limit = {}
        kinds = dict.fromkeys(row.decoded for row in self.rows)
        alpha = budget.alpha(Family.SINGLE, series=len(kinds))
        for decoded in kinds:
            rows = [row for row in self.rows if row.decoded is decoded]
            pools = {id(row.pool): row.pool for row in rows}.values()
            null = [each.furthest for pool in pools for each in pool.distances]
            limit[decoded] = limits.gross_limit(
                null, judged=len(rows), resolution=self.resolution, alpha=alpha
            )
        return limit

    @cached_property
    def gross(self) -> tuple[Row, ...]:
        """Judged answers that are damage each on its own."""
        return tuple(row for row in self.rows if row.pool.null and self._is_gross(row))

    @cached_property
    def alarms(self) -> tuple[Alarm, ...]:
        """Tests that neither chance, nor rounding, nor passes that are odd by themselves explain."""
        return confirmation.proven(
            self._significant,
            tests=self._tests,
            null_passes=confirmation.null_passes_of(self._passes),
            alpha=self._alpha,
        )

    @cached_property
    def _significant(self) -> tuple[Alarm, ...]:
        """Tests that chance does not explain, however small the effect is."""
        return confirmation.significant(self._tests, alpha=self._alpha)

    @cached_property
    def damaged(self) -> tuple[Reply, ...]:
        """The judged answers that bear the damage: gross ones, and the odd ones of passes that alarm."""
        gross = {id(row) for row in self.gross}
        alarmed = {alarm.test.start.number for alarm in self.alarms}
        return tuple(
            row.track.reply
            for row in self.rows
            if id(row) in gross or (row.track.reply.start.number in alarmed and row.exceeds)
        )

    @cached_property
    def smallest_shift(self) -> float | None:
        """What, added to the typical distance of every answer of a pass, would have alarmed, nat."""
        shifts = [
            limits.smallest_shift(
                judged.distances(lambda each: each.typical),
                alpha=self._alpha_of_a_test,
                resolution=self.resolution,
            )
            for judged in self._passes
        ]
        found = [shift for shift in shifts if shift is not None]
        return max(found) if found and len(found) == len(shifts) else None

    def findings(self) -> tuple[Finding, ...]:
        """All that is proven: every alarm, every gross answer."""
        return (*map(_of_alarm, self.alarms), *map(self._of_gross, self.gross))

    def obstacles(self) -> Iterator[str]:
        """Yield why the noise allows no clean verdict, each with what would settle it."""
        least = 1 if self.quiet else limits.LEAST_NULL_ANSWERS
        thin = [row for row in self.rows if not self._can_be_judged(row, least=least)]
        if thin:
            yield (
                f"the noise is not known well enough: {len(thin)} of {len(self.rows)} answers cannot be "
                f"compared with {least} null answers under the same conditions; "
                f"give null_transition {least} or more passes, ask for warm, rehit and cold evidence, "
                f"or {self._less_noise}"
            )
        elif self._passes and not self.quiet:
            fewest = min(self._passes, key=lambda judged: len(judged.rows))
            needed = limits.prompts_needed(columns=fewest.null + 1, alpha=self._alpha_of_a_test)
            if len(fewest.rows) < needed:
                few = "1 prompt is" if len(fewest.rows) == 1 else f"{len(fewest.rows)} prompts are"
                yield f"{few} too few to tell damage from noise: use {needed}"
        if doubt := confirmation.doubts(self._significant, passes=len(self._passes)):
            yield f"{doubt}: give null_transition twice as many passes, or {self._less_noise}"
        if self._coarseness > limits.TOO_COARSE:
            yield f"the noise is so {self._how_coarse()} would not show: {self._less_noise}"

    @cached_property
    def _less_noise(self) -> str:
        """What would make answers differ less by themselves, as far as it is not done already."""
        in_float32 = self._in_float32
        if in_float32 is None:
            in_float32 = resolution_of(self._null_answers.pools.values()) <= limits.RESOLUTION
        if not in_float32:
            return "serve the model in float32"
        if any(reply.start.concurrency > 1 for reply in self._judged_replies):
            return "lower the concurrency to 1"
        return "find out why answers to one request at a time differ"

    def _can_be_judged(self, row: Row, *, least: int) -> bool:
        """Whether enough is known to tell what an answer's distance means.

        Null answers tell how far off a healthy answer may lie.  Where nothing differs by itself, one that is
        the baseline's needs none.
        """
        if self.quiet and row.pool.baseline and row.distance.furthest <= limits.RESOLUTION:
            return True
        return len(row.pool.null) >= least and row.pool.tells_noise

    def _how_coarse(self) -> str:
        if self._coarseness > limits.BOUNDLESS:
            return "irregular that an answer, however far off,"
        return f"large that an answer off by {self._coarseness:.2g} nat"

    def healed(self, replies: Sequence[Reply]) -> int:
        """How many of ``replies``, the answers of a control, are within the noise.

        As a group they may show what none shows alone: then those that lie further off than
        all their null answers are not healed.
        """
        rows = self._null_answers.rows(replies)
        sound = [row for row in rows if not self._is_gross(row)]
        testable = [row for row in sound if len(row.pool.null) >= limits.LEAST_NULL_ANSWERS]
        if not testable or not _still_damaged(self._judged(testable)):
            return len(sound)
        return sum(not row.exceeds for row in sound)

    @cached_property
    def _pools(self) -> tuple[Pool, ...]:
        return tuple({id(row.pool): row.pool for row in self.rows}.values())

    @cached_property
    def _passes(self) -> tuple[JudgedPass, ...]:
        by_pass: dict[int, list[Row]] = {}
        for row in self.rows:
            if len(row.pool.null) >= limits.LEAST_NULL_ANSWERS:
                by_pass.setdefault(row.track.reply.start.number, []).append(row)
        return tuple(self._judged(rows) for rows in by_pass.values())

    @cached_property
    def _tests(self) -> tuple[PassTest, ...]:
        return tuple(test for judged in self._passes for test in tests_of(judged, beside=self._passes))

    @property
    def _alpha_of_a_test(self) -> float:
        """What the most significant of all tests is compared with."""
        return self._alpha / max(1, len(self._tests))

    @property
    def _alpha(self) -> float:
        """What all tests of all passes share."""
        return self._budget.alpha(Family.TOGETHER)

    def _judged(self, rows: Sequence[Row]) -> JudgedPass:
        return JudgedPass(
            start=rows[0].track.reply.start,
            rows=tuple(rows),
            null=min(len(row.pool.null) for row in rows),
            resolution=self.resolution,
        )

    def _is_gross(self, row: Row) -> bool:
        return row.distance.furthest > self._gross_limits.get(row.decoded, self.gross_limit)

    def _of_gross(self, row: Row) -> Finding:
        off, limit = row.distance, self._gross_limits[row.decoded]
        finite = bool(np.isfinite(off.furthest))
        how_far = f"deviates by {off.furthest:.3g} nat" if finite else "cannot be explained by noise"
        return finding_about(
            row.track.reply,
            f"token {off.furthest_at} {how_far}; {limit:.2g} is the most that noise explains",
            checker="divergence",
            strength=Strength.PROOF,
            evidence={
                "test": "gross",
                "deviation": off.furthest if finite else None,
                "limit": limit,
                "position": off.furthest_at,
                "null_answers": len(row.pool.null),
            },
        )


def _are_quiet(pools: Iterable[Pool], *, resolution: float) -> bool:
    """Whether nothing in ``pools`` differs by more than the order of additions, finely computed, explains."""
    return resolution <= limits.RESOLUTION and all(pool.spread <= limits.RESOLUTION for pool in pools)


def _still_damaged(judged: JudgedPass) -> bool:
    return any(test.odd and test.p_value <= CONTROL_ALPHA for test in tests_of(judged, beside=()))


def _of_alarm(alarm: Alarm) -> Finding:
    test = alarm.test
    return Finding(
        checker=test.checker,
        message=f"{occasion(test.start)}: {test.sentence} (p = {alarm.adjusted:.2g} after Holm)",
        strength=Strength.PROOF,
        pass_number=test.start.number,
        cycle=test.start.cycle,
        evidence={"test": test.name, "p_value": test.p_value, "adjusted_p_value": alarm.adjusted},
    )
