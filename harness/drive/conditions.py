"""Under which conditions the prompts of a probe are asked, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.history.passes import CacheCondition, Method, Role
from harness.scenario.schema import Scenario
from harness.scenario.steps.asking import EvidenceName, ProbeOptions

_DECODED: dict[EvidenceName, CacheCondition] = {
    "warm": CacheCondition.WARM,
    "rehit": CacheCondition.REHIT,
    "cold": CacheCondition.COLD,
}
_ONLY_IN_BASELINE: frozenset[EvidenceName] = frozenset({"rehit", "unseen"})
"""Of a scenario's evidence; a probe that names it itself asks it anywhere."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What answers must have in common to be compared."""

    method: Method = Method.GENERATED
    cache: CacheCondition
    concurrency: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a probe asks: passes over all prompts, in order, and whether the unseen ones follow."""

    passes: tuple[Condition, ...]
    unseen: bool
    concurrency: int
    """The first that is named: what is asked once is asked at it."""


def plan(scenario: Scenario, options: ProbeOptions, *, role: Role, caches: bool = True) -> Plan:
    """Lay out a probe.

    Passes that read the prefix cache come first: a scored one writes it, and so would hide that
    a cached block is missing.  Where the engine ``caches`` nothing of a prompt, warm, rehit and cold ask the
    same, and the first that is named stands for all; a probe of re-hits alone, after the baseline, asks
    nothing.
    """
    named = options.evidence or tuple(
        each for each in scenario.evidence if role is Role.BASELINE or each not in _ONLY_IN_BASELINE
    )
    if not caches and role is not Role.BASELINE and named == ("rehit",):
        named = ()
    concurrencies = each_concurrency(options.concurrency or scenario.concurrency)
    return Plan(
        passes=tuple(_passes(named, concurrencies, caches=caches)),
        unseen="unseen" in named,
        concurrency=concurrencies[0],
    )


def repeated(
    baseline: Iterable[Condition], named: Sequence[EvidenceName] | None = None, *, caches: bool = True
) -> list[Condition]:
    """The conditions under which a null transition asks: those ``named``, else those of a baseline.

    A re-hit is left out of the baseline's: it is one of warm.  A cold pass is added to a warm one that has
    none: in a null transition warm reads the cache, and what is asked after a sleep is computed.
    ``caches`` is as for :func:`plan`.
    """
    if named is None:
        asked = [condition for condition in baseline if condition.cache is not CacheCondition.REHIT]
        cold = [replace(each, cache=CacheCondition.COLD) for each in asked if caches]
        return list(dict.fromkeys((*asked, *cold)))
    generated = [condition.concurrency for condition in baseline if condition.method is Method.GENERATED]
    return list(_passes(named, tuple(dict.fromkeys(generated)), caches=caches))


def each_concurrency(concurrency: int | tuple[int, ...]) -> tuple[int, ...]:
    """One or several, as several."""
    return (concurrency,) if isinstance(concurrency, int) else concurrency


def _passes(
    named: Sequence[EvidenceName], concurrencies: Sequence[int], *, caches: bool
) -> Iterator[Condition]:
    decoded = [_DECODED[evidence] for evidence in named if evidence in _DECODED]
    for concurrency in concurrencies:
        for cache in decoded if caches else decoded[:1]:
            yield Condition(cache=cache, concurrency=concurrency)
        if Method.FORCED.value in named:
            yield Condition(method=Method.FORCED, cache=CacheCondition.COLD, concurrency=concurrency)
    for method in (Method.SCORED, Method.SAMPLED):
        if method.value in named:
            yield Condition(method=method, cache=CacheCondition.COLD, concurrency=concurrencies[0])
