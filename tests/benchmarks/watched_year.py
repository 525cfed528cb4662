"""``python -m tests.benchmarks.watched_year``: false alarms of a watch over healthy imagined engines.

A year of wake-ups, one every ten minutes, held against one baseline; and the first checks, on which nearly
the whole error rate is spent, of many watches with baselines of their own.

The engines are those of :mod:`tests.benchmarks.imagined_engine`.  What is judged is what a watch asks: as
many canaries, computed and then read from the cache, against a baseline of as many null passes as it takes.
Every check is held against the baseline by the check's own tests (:class:`Calibration`).  What does not
depend on the check, the distances within the baseline, is worked out once a watch.  The first check, every
fiftieth after it and all that are not sound are judged whole besides, and must come to the same.

From :data:`EACH` on one check stands for many: check number k spends 1 / (k * (k + 1)) of the error rate, so
later ones are judged by a threshold that hardly any chance reaches.  One in so many is made up, and judged
with what all that it stands for may spend together: it raises as many false alarms as they would, as long as
a test alarms half as often at half the rate.  ``--stands-for 1`` leaves nothing out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from harness.check import judge
from harness.check.answer_pair import Reply
from harness.check.evidence import Evidence
from harness.check.noise.budget import RUN_ALPHA, ErrorBudget
from harness.check.noise.calibration import Calibration
from harness.check.noise.limits import LEAST_NULL_ANSWERS
from harness.check.noise.null_answers import NullAnswers
from harness.check.result import Verdict
from harness.history.passes import CacheCondition, PassStarted, Role
from harness.history.recording import Pass, Recording
from harness.watch.canaries import AT_A_TIME
from harness.watch.guard import ASKED_AGAIN
from harness.watch.options import WatchOptions
from tests.benchmarks.imagined_engine import (
    CONTEXTS,
    END,
    PROMPT_TOKENS,
    VOCABULARY,
    Ints,
    Requests,
    answer_of,
    answered,
    prompts,
)
from tests.benchmarks.noise_models import ROUNDED
from tests.benchmarks.tally import Rate
from tests.history.begun import step_started
from tests.history.strategies import cell_started
from tests.marked_part import write_part

PART = "watched year"
YEAR = 365 * 24 * 6
NOISE = "independent"
PROMPTS, TOKENS = WatchOptions(endpoint="").prompts, WatchOptions(endpoint="").max_tokens
EACH = 500
"""So many checks of the year stand for themselves,"""
STANDS_FOR = 100
"""and each one after them for so many."""
OF_A_PART = 50
"""Checks that are judged in one go."""
AT_ONCE = 5
"""Checks whose answers are made together: as many passes as a model of noise knows of."""
WHOLE_FIRST, WHOLE_EVERY = 1, 50
WATCHES, FIRST_CHECKS = 5, 5

_WARM, _REHIT, _COLD = CacheCondition.WARM, CacheCondition.REHIT, CacheCondition.COLD
BASELINE = (
    (Role.BASELINE, _WARM, 0),
    *(
        (Role.NULL, cache, cached)
        for _ in range(LEAST_NULL_ANSWERS)
        for cache, cached in ((_WARM, 1), (_COLD, 0))
    ),
)
"""Every pass: what it is evidence of, how it is asked, and whether the cache answers."""
CHECK = ((Role.AFTER, _WARM, 0), (Role.AFTER, _REHIT, 1))


@dataclass(frozen=True, kw_only=True)
class WakeUp:
    """One wake-up, or the first of many that it stands for."""

    number: int
    """From 1."""
    stands_for: int = 1

    @property
    def budget(self) -> ErrorBudget:
        """What the checks of all these may spend together; the rounding is in favour of alarms."""
        cells = self.number * (self.number + self.stands_for) // self.stands_for
        return ErrorBudget(cells=cells, in_turn=True)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some wake-ups of one watch.

    Attributes:
        noise: Of the engine.
        watch: Names the watch: the same one has the same baseline.
        wake_ups: In order.
    """

    noise: str
    watch: int
    wake_ups: tuple[WakeUp, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was said of them."""

    part: Part
    stood_for: int = 0
    """Wake-ups, those that were left out included."""
    checks: int = 0
    alarms: int = 0
    doubtful: int = 0
    """Checks that were inconclusive."""
    whole: int = 0
    """Checks that were judged whole as well,"""
    otherwise: int = 0
    """and came to something else."""


class Watch:
    """One imagined engine under watch."""

    def __init__(self, noise: str, number: int) -> None:
        self._noise = ROUNDED[noise]
        random = np.random.default_rng((17, number))
        self._contexts = random.integers(0, CONTEXTS, size=PROMPTS)
        self.baseline = self._asked(BASELINE, random, after=False)
        evidence = Evidence(self._recording(()))
        self.null_answers = NullAnswers(
            prompts=evidence.recording.prompts,
            baseline=evidence.baseline_replies,
            null=evidence.null_replies,
        )

    def checks(self, random: np.random.Generator) -> Iterator[tuple[Pass, ...]]:
        """What the canaries answer, again and again."""
        while True:
            passes = self._asked(CHECK * AT_ONCE, random, after=True)
            for start in range(0, len(passes), len(CHECK)):
                yield passes[start : start + len(CHECK)]

    def verdict(self, passes: Sequence[Pass], budget: ErrorBudget) -> Verdict:
        """Hold one check against the baseline."""
        replies = [
            Reply(start=each.start, answer=answer) for each in passes for answer in each.answers.values()
        ]
        calibration = Calibration(
            judged=replies,
            null_answers=self.null_answers,
            in_float32=False,
            budget=budget,
        )
        if calibration.findings():
            return Verdict.CORRUPT
        return Verdict.INCONCLUSIVE if any(calibration.obstacles()) else Verdict.CLEAN

    def judged_whole(self, passes: Sequence[Pass], budget: ErrorBudget) -> Verdict | None:
        """The same by all that a verdict rests on."""
        return judge(self._recording(passes), budget=budget).verdict

    def _asked(
        self,
        schedule: Sequence[tuple[Role, CacheCondition, int]],
        random: np.random.Generator,
        *,
        after: bool,
    ) -> tuple[Pass, ...]:
        passes: Ints = np.repeat(np.arange(len(schedule)), PROMPTS)
        places = np.tile(np.arange(PROMPTS), len(schedule))
        requests = Requests(
            passes=passes,
            prompts=places,
            after=np.full(len(passes), after),
            warm=np.array([cached == 0 for _, _, cached in schedule])[passes],
        )
        ids, values = answered(self._contexts[places], self._noise(requests, random), tokens=TOKENS)
        begun = 100.0 if after else 1.0
        return tuple(
            _pass(
                PassStarted(
                    t=begun + number,
                    number=number + (len(BASELINE) if after else 0),
                    step="4" if after else "1",
                    probe=role.value,
                    role=role,
                    cache=cache,
                    concurrency=AT_A_TIME,
                    cycle=int(after),
                ),
                ids[number * PROMPTS : (number + 1) * PROMPTS],
                values[number * PROMPTS : (number + 1) * PROMPTS],
                cached=cached * PROMPT_TOKENS,
            )
            for number, (role, cache, cached) in enumerate(schedule)
        )

    def _recording(self, passes: Sequence[Pass]) -> Recording:
        step = step_started(t=50, step="3", action="seen_wake_up", options={}, cycle=1)
        return Recording(
            cell=cell_started(max_tokens=TOKENS, arm_args=["--dtype=bfloat16"], concurrency=AT_A_TIME),
            prompts=prompts(PROMPTS),
            end_of_sequence_ids=(END,),
            vocabulary_size=VOCABULARY,
            passes=(*self.baseline, *passes),
            steps=(step.model_copy(update={"seen": True}),),
            finished=True,
        )


def _pass(start: PassStarted, ids: np.ndarray, values: np.ndarray, *, cached: int) -> Pass:
    answers = [answer_of(start, place, ids[place], values[place], cached=cached) for place in range(len(ids))]
    return Pass(start=start, answers={answer.prompt: answer for answer in answers})


def watched(part: Part) -> Found:
    """Judge some wake-ups of a watch; what is inconclusive is asked again, as a watch does.

    What is asked again is not numbered: the checks after it have more to spend than those of a watch.
    """
    watch = Watch(part.noise, part.watch)
    checks = watch.checks(np.random.default_rng((18, part.watch, part.wake_ups[0].number)))
    found = Found(part=part, stood_for=sum(each.stands_for for each in part.wake_ups))
    for wake_up in part.wake_ups:
        for _ in range(1 + ASKED_AGAIN):
            passes = next(checks)
            verdict = watch.verdict(passes, wake_up.budget)
            found = _counted(found, watch, passes, verdict, wake_up)
            if verdict is not Verdict.INCONCLUSIVE:
                break
    return found


def _counted(found: Found, watch: Watch, passes: Sequence[Pass], verdict: Verdict, wake_up: WakeUp) -> Found:
    is_sample = wake_up.number <= WHOLE_FIRST or (found.checks + 1) % WHOLE_EVERY == 0
    is_whole = is_sample or verdict is not Verdict.CLEAN
    differs = is_whole and watch.judged_whole(passes, wake_up.budget) is not verdict
    return replace(
        found,
        checks=found.checks + 1,
        alarms=found.alarms + (verdict is Verdict.CORRUPT),
        doubtful=found.doubtful + (verdict is Verdict.INCONCLUSIVE),
        whole=found.whole + is_whole,
        otherwise=found.otherwise + differs,
    )


def year(wake_ups: int, *, stands_for: int) -> list[WakeUp]:
    """All wake-ups of a year, or those that stand for them."""
    each = [WakeUp(number=number) for number in range(1, min(EACH, wake_ups) + 1)]
    return each + [
        WakeUp(number=number, stands_for=min(stands_for, wake_ups + 1 - number))
        for number in range(EACH + 1, wake_ups + 1, stands_for)
    ]


def parts(*, wake_ups: int, stands_for: int, watches: int) -> Iterator[Part]:
    """The year, and the beginnings of other watches with every kind of noise."""
    for some in batched(year(wake_ups, stands_for=stands_for), OF_A_PART):
        yield Part(noise=NOISE, watch=0, wake_ups=some)
    first = tuple(year(FIRST_CHECKS, stands_for=1))
    for noise in ROUNDED:
        for watch in range(1, watches + 1):
            yield Part(noise=noise, watch=watch, wake_ups=first)


def batched(wake_ups: Sequence[WakeUp], size: int) -> Iterator[tuple[WakeUp, ...]]:
    """So many at a time."""
    for start in range(0, len(wake_ups), size):
        yield tuple(wake_ups[start : start + size])


def table(found: Sequence[Found]) -> str:
    """What was counted, in Markdown."""
    long = [each for each in found if each.part.watch == 0]
    others = [each for each in found if each.part.watch != 0]
    rows = [_row(f"a year, {NOISE}", long, watches=1)]
    for noise in ROUNDED:
        of = [each for each in others if each.part.noise == noise]
        rows.append(_row(f"the first {FIRST_CHECKS}, {noise}", of, watches=len(of)))
    alarmed = Rate(count=sum(each.alarms > 0 for each in others), total=len(others))
    whole, otherwise = (sum(getattr(each, name) for each in found) for name in ("whole", "otherwise"))
    return "\n".join(
        (
            "| healthy wake-ups, noise | watches | wake-ups | checks made up | false alarms | inconclusive |",
            "|---|---:|---:|---:|---:|---:|",
            *rows,
            "",
            (
                f"Of the watches that were begun, {alarmed} raised a false alarm; {RUN_ALPHA:.0%} may in "
                f"their whole life. Judged whole as well: {whole:,} checks, {otherwise} of them otherwise."
            ),
        )
    )


def _row(name: str, found: Sequence[Found], *, watches: int) -> str:
    counts = ("stood_for", "checks", "alarms", "doubtful")
    told = (f"{sum(getattr(each, name) for each in found):,}" for name in counts)
    return f"| {name} | {watches} | {' | '.join(told)} |"


def main() -> None:
    """Judge them all, and print the table or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wake-ups", type=int, default=YEAR, help="of the long watch")
    parser.add_argument("--stands-for", type=int, default=STANDS_FOR, help="wake-ups, for each later check")
    parser.add_argument("--watches", type=int, default=WATCHES, help="that are begun with each kind of noise")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--into", type=Path, help=f'the page whose part "{PART}" is rewritten')
    options = parser.parse_args()
    asked = list(parts(wake_ups=options.wake_ups, stands_for=options.stands_for, watches=options.watches))
    os.environ["OMP_NUM_THREADS"] = "1"  # each process has one core to itself
    began = time.monotonic()
    found = []
    # A process that is forked shares what numpy's threads hold; one that is spawned begins anew.
    with get_context("spawn").Pool(options.processes) as pool:
        for each in pool.imap_unordered(watched, asked):
            found.append(each)
            sys.stderr.write(f"{len(found)} of {len(asked)} parts, {time.monotonic() - began:.0f} s\n")
    told = table(found)
    if options.into:
        command = f"python -m tests.benchmarks.watched_year --into {options.into}"
        write_part(options.into, PART, f"Written by `{command}`.\n\n{told}")
    else:
        sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main()
