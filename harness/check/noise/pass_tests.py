"""The questions put to every judged pass where answers differ even though nothing happened.

Each looks for another kind of damage.  All permute answers within prompts, so a prompt that
is noisier or longer than others does not matter, and the prompt is the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.check.noise.distance import Distance, Track, measure
from harness.check.noise.exact_tests import Scores, exceedance, rank_test
from harness.check.noise.limits import LEAST_SCALE, MARGIN, PROOF, common_ratio, typical_ratio
from harness.check.noise.null_answers import Row
from harness.history.passes import Method, PassStarted

TESTS_OF_A_PASS = 6
"""How many questions are put to one pass, at the most."""

LEAST_REPETITION = 0.02
"""From which part on it matters that more, or fewer, n-grams of the answers are repeats."""

LEAST_TOKENS = 1.0
"""From how many tokens on it matters that answers are longer, or shorter, on average."""


@dataclass(frozen=True, kw_only=True)
class PassTest:
    """The answer to one question about one judged pass."""

    name: str
    checker: Literal["divergence", "repetition", "termination"]
    start: PassStarted
    p_value: float
    sentence: str
    effect: float = np.inf
    """How many times as far off as the noisiest null pass."""
    lasting: float = 0.0
    """How much of that lasts: how many times as far off as from another judged pass.  Noise scatters, so that
    judged passes lie as far from each other as from null passes, however noisy they are; damage lasts."""
    moves_with_a_pass: bool = True
    """Whether what befalls a whole pass may move all its answers: it has to be seen in others, too."""

    @property
    def material(self) -> bool:
        """Whether the effect is large enough to prove damage, however significant it is."""
        return self.effect > PROOF

    @property
    def odd(self) -> bool:
        """Whether it is larger than a pass should be odd by."""
        return self.effect > MARGIN

    @property
    def notable(self) -> bool:
        """Whether it is at least half as large: too large to be passed over where it keeps coming back."""
        return self.effect > MARGIN / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedPass:
    """The answers of one judged pass, each with its null answers; all rows have at least ``null`` of them.

    ``resolution`` is the largest shift that rounding alone explains, nat.
    """

    start: PassStarted
    rows: tuple[Row, ...]
    null: int
    resolution: float

    def distances(self, value: Callable[[Distance], float]) -> Scores:
        """One number for every answer's distance."""
        return np.array(
            [
                [*(value(each) for each in row.pool.distances[: self.null]), value(row.distance)]
                for row in self.rows
            ],
            dtype=np.float64,
        )

    def distances_from(self, other: JudgedPass) -> Scores | None:
        """How far answers typically lie from another judged pass's, where both are held against the same.

        The columns before are those of :meth:`distances`.  None where they have nothing in common.
        """
        tracks = {id(row.pool): row.track for row in other.rows}
        common = [row for row in self.rows if id(row.pool) in tracks]
        if not common:
            return None
        return np.array(
            [
                [
                    *(each.typical for each in row.pool.distances[: self.null]),
                    measure(row.track, [tracks[id(row.pool)]]).typical,
                ]
                for row in common
            ],
            dtype=np.float64,
        )

    def answers(self, value: Callable[[Track, int], float]) -> Scores:
        """One number for every answer itself, given how many tokens all answers to its prompt have."""
        rows = []
        for row in self.rows:
            tracks = (*row.pool.null[: self.null], row.track)
            window = min(len(track.tokens) for track in tracks)
            rows.append([value(track, window) for track in tracks])
        return np.array(rows, dtype=np.float64)


def tests_of(judged: JudgedPass, *, beside: Sequence[JudgedPass]) -> Iterator[PassTest]:
    """Put every question to one pass that its answers can tell something about, ``beside`` others."""
    yield _dense(judged, beside)
    yield _sparse(judged)
    yield _scale(judged)
    match judged.start.method:
        case Method.GENERATED:
            yield _repetition(judged)
            yield _length(judged)
            yield _ending(judged)
        case Method.SAMPLED:
            yield _sampling(judged)
        case Method.SCORED | Method.FORCED:
            pass  # their tokens are given


def _dense(judged: JudgedPass, beside: Sequence[JudgedPass]) -> PassTest:
    """Do answers typically lie further off than null answers do, and together with those of another pass?"""
    scores = judged.distances(lambda each: each.typical)
    ratio = typical_ratio(scores, resolution=judged.resolution)
    apart = [
        typical_ratio(from_other, resolution=judged.resolution)
        for other in beside
        if ratio > MARGIN and other is not judged and (from_other := judged.distances_from(other)) is not None
    ]
    return PassTest(
        name="dense",
        checker="divergence",
        start=judged.start,
        p_value=rank_test(scores).higher,
        sentence=f"answers typically deviate {ratio:.2g} times as far as null answers",
        effect=ratio,
        lasting=ratio / max(1.0, min(apart)) if apart else 0.0,
    )


def _sparse(judged: JudgedPass) -> PassTest:
    """Do some prompts lie further off than any null answer, by the margin?

    A pass that is noisier as a whole takes all its answers further: that is taken off them.
    """
    scores = judged.distances(lambda each: each.furthest)
    typical = judged.distances(lambda each: each.typical)
    noisier = common_ratio(typical, resolution=judged.resolution)
    scores[:, :-1] = MARGIN * noisier * np.maximum(scores[:, :-1], judged.resolution)
    beyond = int((scores[:, -1] > scores[:, :-1].max()).sum())
    return PassTest(
        name="sparse",
        checker="divergence",
        start=judged.start,
        p_value=exceedance(scores),
        sentence=f"{beyond} of {len(scores)} prompts deviate further than any null answer",
        moves_with_a_pass=False,
    )


def _scale(judged: JudgedPass) -> PassTest:
    """Do all contrasts shrink, or grow, by one factor?

    It may move no greedy token and no contrast by more than rounding does, and yet changes every
    probability: only the direction they have in common tells it from noise.
    """
    scores = judged.distances(lambda each: each.scale)
    factor = float(np.median(scores[:, -1]))
    by_noise = float(np.abs(np.median(scores[:, :-1], axis=0) - 1.0).max())
    return PassTest(
        name="scale",
        checker="divergence",
        start=judged.start,
        p_value=rank_test(scores).two_sided,
        sentence=f"the gaps between candidates are typically {factor:.3g} times as wide as before",
        effect=abs(factor - 1.0) / max(by_noise, LEAST_SCALE / PROOF),
    )


def _repetition(judged: JudgedPass) -> PassTest:
    """Do answers repeat themselves more, or less, than null answers of the same length?"""
    scores = judged.answers(lambda track, window: track.repeated_ngrams(window))
    return _of_a_measure(
        judged,
        scores,
        name="repetition",
        checker="repetition",
        least=LEAST_REPETITION,
        sentence="answers repeat themselves {} than null answers",
        directions=("more", "less"),
    )


def _sampling(judged: JudgedPass) -> PassTest:
    """Do sampled answers part sooner from those they share most with than null answers do?

    Equal distributions and equal random numbers give equal tokens; noise in either makes two
    answers part where a random number falls between two candidates.
    """
    scores = judged.distances(lambda each: each.positions)
    soonest = float(np.median(scores[:, :-1].min(axis=1)))
    return PassTest(
        name="sampling",
        checker="divergence",
        start=judged.start,
        p_value=rank_test(scores).lower,
        sentence=f"with the same seed, answers typically diverge after {np.median(scores[:, -1]):.0f} "
        f"tokens, null answers after {np.median(scores[:, :-1]):.0f}",
        effect=soonest / max(1.0, float(np.median(scores[:, -1]))),
    )


def _length(judged: JudgedPass) -> PassTest:
    """Are answers longer, or shorter, as far as the limit lets them?"""
    return _of_a_measure(
        judged,
        judged.answers(lambda track, _: len(track.tokens)),
        name="length",
        checker="termination",
        least=LEAST_TOKENS,
        sentence="answers are {} than null answers",
        directions=("longer", "shorter"),
    )


def _ending(judged: JudgedPass) -> PassTest:
    """Do more answers, or fewer, end by themselves?"""
    scores = judged.answers(lambda track, _: track.reply.answer.finish_reason == "stop")
    return _of_a_measure(
        judged,
        scores,
        name="ending",
        checker="termination",
        least=1 / len(scores),
        sentence="{} answers end by themselves than null answers",
        directions=("more", "fewer"),
    )


def _of_a_measure(
    judged: JudgedPass,
    scores: Scores,
    *,
    name: str,
    checker: Literal["repetition", "termination"],
    least: float,
    sentence: str,
    directions: tuple[str, str],
) -> PassTest:
    """Is a measure of the answers themselves higher, or lower, than in null answers?"""
    ranks = rank_test(scores)
    effect = excess(scores, least=least)
    return PassTest(
        name=name,
        checker=checker,
        start=judged.start,
        p_value=ranks.two_sided,
        sentence=sentence.format(directions[0] if ranks.higher < ranks.lower else directions[1]),
        effect=effect,
    )


def excess(scores: Scores, *, least: float) -> float:
    """How many times as far from the null passes the judged one lies as any of them from the others.

    Less than ``least`` proves nothing, however near to each other they lie.
    """
    null = scores[:, :-1].mean(axis=0)
    others = (null.sum() - null) / max(1, len(null) - 1)
    by_noise = float(np.abs(null - others).max()) if len(null) > 1 else 0.0
    return abs(float(scores[:, -1].mean() - null.mean())) / max(by_noise, least / PROOF)
