"""``python -m tests.benchmarks.calibration``: how often imagined engines are judged rightly, by the thousand.

Every history is judged as a run by itself, which may spend the whole error rate of a run on it; damaged ones
also as one cell of a run of fifteen.  The same seeds give the same histories.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from harness.check import judge
from harness.check.noise.budget import RUN_ALPHA, ErrorBudget
from harness.check.result import Verdict
from tests.benchmarks.imagined_engine import CYCLES, HEALTHY, NULL_PASSES, PROMPTS, TOKENS, history
from tests.benchmarks.noise_models import DAMAGE, FINE, ROUNDED
from tests.benchmarks.tally import Rate

ALL_NOISE = {**ROUNDED, **FINE}
WITHOUT_NOISE = next(iter(FINE))
MANY = 15
"""Cells of the larger run that damaged engines are also judged in."""
HEALTHY_EACH, DAMAGED_EACH = 200, 23
"""Histories of each model of noise; and of each with each kind of damage."""
ACCUSED = {Verdict.CORRUPT, Verdict.DEGRADED}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One history that is judged."""

    noise: str
    seed: int
    damage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was said of it: as a run by itself, and, of a damaged engine, in a run of many cells."""

    trial: Trial
    alone: Verdict | None
    among_many: Verdict | None = None


def trials(*, healthy: int, damaged: int) -> Iterator[Trial]:
    """Every history, each with a seed of its own."""
    seed = 0
    for noise in ALL_NOISE:
        for _ in range(healthy):
            yield Trial(noise=noise, seed=(seed := seed + 1))
    for noise in (*ROUNDED, WITHOUT_NOISE):
        for damage in DAMAGE:
            for _ in range(damaged):
                yield Trial(noise=noise, seed=(seed := seed + 1), damage=damage)


def judged(trial: Trial) -> Outcome:
    """Make a history up and judge it."""
    damage = DAMAGE[trial.damage] if trial.damage else HEALTHY
    recording = history(trial.seed, ALL_NOISE[trial.noise], damage, rounded=trial.noise in ROUNDED)
    alone = judge(recording).verdict
    if trial.damage is None:
        return Outcome(trial=trial, alone=alone)
    many = judge(recording, budget=ErrorBudget(cells=MANY)).verdict
    return Outcome(trial=trial, alone=alone, among_many=many)


def page(outcomes: Sequence[Outcome]) -> str:
    """``docs/calibration.md``."""
    healthy = [each for each in outcomes if each.trial.damage is None]
    damaged = [each for each in outcomes if each.trial.damage is not None]
    return _PAGE.format(
        healthy=len(healthy),
        damaged=len(damaged),
        alpha=f"{RUN_ALPHA:.0%}",
        prompts=PROMPTS,
        tokens=TOKENS,
        null=NULL_PASSES,
        cycles=CYCLES,
        many=MANY,
        conclusion=_conclusion(healthy),
        of_noise="\n".join(_healthy_rows(healthy)),
        of_damage="\n".join(_damaged_rows(damaged, DAMAGE, by="damage")),
        of_damage_by_noise="\n".join(_damaged_rows(damaged, (*ROUNDED, WITHOUT_NOISE), by="noise")),
    )


def false_alarms(outcomes: Sequence[Outcome]) -> Rate:
    """How many healthy engines were called corrupt or degraded."""
    return Rate(count=sum(each.alone in ACCUSED for each in outcomes), total=len(outcomes))


def _conclusion(healthy: Sequence[Outcome]) -> str:
    """Whether the stated rate holds, and where not."""
    rates = {name: false_alarms([e for e in healthy if e.trial.noise == name]) for name in ALL_NOISE}
    broken = [f"{name} ({rate})" for name, rate in rates.items() if rate.interval[0] > RUN_ALPHA]
    above = [f"{name} ({rate})" for name, rate in rates.items() if rate.interval[0] <= RUN_ALPHA < rate.value]
    whole = f"Of all healthy engines {false_alarms(healthy)} were called corrupt or degraded."
    if broken:
        return f"{whole} The stated rate does **not** hold with this noise: {'; '.join(broken)}."
    if above:
        return f"{whole} No model of noise contradicts the stated rate; counted above it: {'; '.join(above)}."
    return f"{whole} The count is within the stated rate for every model of noise."


def _healthy_rows(healthy: Sequence[Outcome]) -> Iterator[str]:
    for name in ALL_NOISE:
        of = [each for each in healthy if each.trial.noise == name]
        said = Counter(each.alone for each in of)
        yield f"| {name} | {false_alarms(of)} | {said[Verdict.CLEAN]} | {said[Verdict.INCONCLUSIVE]} |"


def _damaged_rows(
    damaged: Sequence[Outcome], names: Iterable[str], *, by: Literal["damage", "noise"]
) -> Iterator[str]:
    for name in names:
        of = [each for each in damaged if getattr(each.trial, by) == name]
        alone = Rate(count=sum(each.alone in ACCUSED for each in of), total=len(of))
        many = Rate(count=sum(each.among_many in ACCUSED for each in of), total=len(of))
        said = Counter(each.alone for each in of)
        doubtful, missed = said[Verdict.INCONCLUSIVE], said[Verdict.CLEAN]
        yield f"| {name} | {alone} | {many} | {doubtful} | {missed} |"


_PAGE = """# Does the stated error rate hold?

A run says of itself: *chance calls a healthy run corrupt or degraded with a probability of at most {alpha},
unless its answers become more than twice as noisy* ([verdicts.md](verdicts.md#the-error-rate)).
Recordings of real engines are too few to show so small a rate.
So {healthy:,} histories of healthy engines and {damaged:,} of damaged ones were made up, and judged.

Written by `make calibration`. The models of noise are in `tests/benchmarks/noise_models.py`. They share
nothing with what the check assumes: noise enters a hidden vector, not the logits; whole passes move, tails
are heavy, noise is half as large again after waking, one prompt is noisy, noise grows with time. Every
history has {prompts} prompts of up to {tokens} tokens, {null} null transitions and {cycles} cycles, each
asked warm and cold. Intervals are exact, at 95%.

{conclusion}

## Healthy engines

Each is a run of one cell, so that the whole rate of a run is spent on it.

| noise | called corrupt or degraded | clean | inconclusive |
|---|---|---:|---:|
{of_noise}

What moves or scatters whole passes is told from damage by the passes themselves: noise leaves judged passes
as far from each other as from null passes, damage leaves them near each other. Passes that lie off but do not
agree are *inconclusive*, unless they are more than twice as far off as the noisiest null pass, and so many
that passes which are odd now and then, at whatever rate, do not explain it.
Where tails are heavy, or one prompt is much noisier than the others, the verdict is often *inconclusive*.

The last two rows have no noise that a test could be calibrated on, and their verdicts no error rate. One odd
answer that stays alone is *inconclusive*; two are *corrupt*, so an engine that answers oddly now and then,
whether it slept or not, is called corrupt as often as two odd answers happen to come after waking and none
before.

## Damaged engines

How many are called corrupt: as a run of one cell, and as one of {many} cells, each of which has a {many}th
of the rate to spend. *Inconclusive* and *missed* are counted for the run of one cell.

| damage after waking | corrupt, 1 cell | corrupt, {many} cells | inconclusive | missed |
|---|---|---|---:|---:|
{of_damage}

The same histories by their noise:

| noise | corrupt, 1 cell | corrupt, {many} cells | inconclusive | missed |
|---|---|---|---:|---:|
{of_damage_by_noise}

What is missed here is small or rare: {prompts} prompts in {cycles} cycles are few. A clean verdict says so
in its bound: in prompts, in requests and in nat.
"""


def main() -> None:
    """Judge them all, on every core, and print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=HEALTHY_EACH, help="histories of each model of noise")
    parser.add_argument("--damaged", type=int, default=DAMAGED_EACH, help="of each with each kind of damage")
    parser.add_argument("--into", type=Path, help="the page to write; without it, it is printed")
    options = parser.parse_args()
    asked = list(trials(healthy=options.healthy, damaged=options.damaged))
    # A process that is forked shares what numpy's threads hold; one that is spawned begins anew.
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        text = page(pool.map(judged, asked, chunksize=20))
    if options.into:
        options.into.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
