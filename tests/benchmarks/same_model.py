"""``python -m tests.benchmarks.same_model``: tests of "same model?" beside ours, on imagined engines.

Each test of the literature gets the threshold that suits it best: the lowest at which it is silent about
every healthy engine of the same model of noise.  Ours has its own, and is told nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness.check import judge
from harness.check.evidence import Evidence
from harness.check.result import Verdict
from harness.history.recording import Recording
from tests.benchmarks.calibration import ALL_NOISE, WITHOUT_NOISE
from tests.benchmarks.contest import OURS
from tests.benchmarks.cutting import cut
from tests.benchmarks.equality_tests import ALPHA, EQUALITY_TESTS, Measured
from tests.benchmarks.imagined_engine import HEALTHY, TOKENS, history
from tests.benchmarks.noise_models import DAMAGE, ROUNDED
from tests.benchmarks.tally import Rate
from tests.marked_part import write_part

PART = "same model"
HEALTHY_EACH, DAMAGED_EACH = 12, 1
CUTS = (1, 2, 4, 8, 16, TOKENS)
"""Tokens an answer, for ours: how few would have been enough."""
NOISE = (
    "independent",
    "whole passes move",
    "one pass in ten noisier",
    "half as large again after waking",
    WITHOUT_NOISE,
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One history, and what everybody makes of it."""

    noise: str
    damage: str | None
    measured: Mapping[str, Measured]
    ours: int | None
    """The fewest tokens at which ours calls it corrupt or degraded; None where it does not."""


def trials(*, healthy: int, damaged: int) -> Iterator[Trial]:
    """Every history, each with a seed of its own; none that ``make calibration`` uses."""
    seed = 1_000_000
    for noise in NOISE:
        for damage, count in ((None, healthy), *((each, damaged) for each in DAMAGE)):
            for _ in range(count):
                yield tried(seed := seed + 1, noise, damage)


def tried(seed: int, noise: str, damage: str | None) -> Trial:
    """Make one history up and put it to everybody."""
    planted = DAMAGE[damage] if damage else HEALTHY
    recording = history(seed, ALL_NOISE[noise], planted, rounded=noise in ROUNDED)
    return Trial(
        noise=noise,
        damage=damage,
        measured={name: test(recording) for name, test in EQUALITY_TESTS.items()},
        ours=_tokens_needed(recording),
    )


def _tokens_needed(recording: Recording) -> int | None:
    if not _accused(recording):
        return None
    shortest = next(each for each in CUTS if each == TOKENS or _accused(cut(recording, tokens=each)))
    replies = Evidence(cut(recording, tokens=shortest)).after_replies
    return sum(len(reply.answer.token_ids) for reply in replies)


def _accused(recording: Recording) -> bool:
    return judge(recording).verdict in {Verdict.CORRUPT, Verdict.DEGRADED}


def table(found: Sequence[Trial]) -> str:
    """The tables, as Markdown."""
    thresholds = {
        (name, noise): max(
            each.measured[name].score for each in found if each.noise == noise and each.damage is None
        )
        for name in EQUALITY_TESTS
        for noise in NOISE
    }
    healthy = [each for each in found if each.damage is None]
    damaged = [each for each in found if each.damage is not None]
    names = (OURS, *EQUALITY_TESTS)

    def detects(name: str, each: Trial) -> bool:
        if name == OURS:
            return each.ours is not None
        return each.measured[name].score > thresholds[name, each.noise]

    def tokens(name: str, each: Trial) -> int:
        return (each.ours or 0) if name == OURS else each.measured[name].tokens

    def alarms(name: str, each: Trial) -> bool:
        return each.ours is not None if name == OURS else each.measured[name].p_value <= ALPHA

    def row(name: str) -> str:
        caught = [tokens(name, each) for each in damaged if detects(name, each)]
        alarmed = Rate(count=sum(alarms(name, each) for each in healthy), total=len(healthy))
        detected = Rate(count=len(caught), total=len(damaged))
        return f"| {name} | {alarmed} | {detected} | {median(caught) if caught else 0:,.0f} |"

    def of_damage(damage: str) -> str:
        those = [each for each in damaged if each.damage == damage]
        counts = (f"{sum(detects(name, each) for each in those)}/{len(those)}" for name in names)
        return f"| {damage} | {' | '.join(counts)} |"

    return _TABLES.format(
        healthy=len(healthy),
        damaged=len(damaged),
        alpha=ALPHA,
        rows="\n".join(map(row, names)),
        names=" | ".join(names),
        line="|---" * (len(names) + 1) + "|",
        of_damage="\n".join(map(of_damage, DAMAGE)),
    )


_TABLES = """Written by `python -m tests.benchmarks.same_model --into docs/comparison.md`.

{healthy} healthy and {damaged} damaged imagined engines, those of [calibration.md](calibration.md).

| test | false alarms as published | detections, no false alarm | tokens needed |
|---|---|---|---:|
{rows}

*As published*: the others at an error rate of {alpha}, ours at its own. *No false alarm*: the others with the
lowest threshold that calls none of the healthy engines with the same noise changed; ours as it is. *Tokens
needed*: the median, over the engines it detects, of tokens generated after waking.

| damage after waking | {names} |
{line}
{of_damage}
"""


def main() -> None:
    """Try them all, and print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--healthy", type=int, default=HEALTHY_EACH, help="histories of each model of noise")
    parser.add_argument("--damaged", type=int, default=DAMAGED_EACH, help="of each with each kind of damage")
    parser.add_argument(
        "--into", type=Path, help="a page with a part called so; without it, they are printed"
    )
    options = parser.parse_args()
    text = table(list(trials(healthy=options.healthy, damaged=options.damaged)))
    if options.into:
        write_part(options.into, PART, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
