"""Full checks and short ones: in a long sequence most are short, so that all of them cost little.

A short check asks two of the canaries for a few tokens.  Damage that every answer bears, as that of lost
weights or of a prefix cache that outlived its blocks, shows in it; damage of few prompts, or of late tokens,
waits for the next full one.  Where answers differ by themselves, two prompts tell nothing and every check is
full.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.guarding import canaries
from harness.guarding.asking import Holder
from harness.guarding.baseline import Baseline
from harness.guarding.messages import Begin
from harness.guarding.passes import Asker

SHORT_PROMPTS = 2
SHORT_TOKENS = 4
"""Of an answer."""


@dataclass(kw_only=True)
class Depth:
    """One of the two, and what it is held against."""

    asker: Asker
    passes: int
    """How many the budget allows before anything is odd."""
    baseline: Baseline | None = None
    """None: not known of the weights that the engine is to have."""


@dataclass(kw_only=True)
class Depths:
    """Both, and whose turn it is.  The first check is full, and so is the one after any that is not clean."""

    full: Depth
    short: Depth | None
    full_every: int
    since_full: int

    @property
    def is_full_due(self) -> bool:
        """Whether the next check is to be a full one."""
        return self.short is None or self.since_full + 1 >= self.full_every

    @property
    def next(self) -> Depth:
        """Which one is next.  A full one has to wait where its baseline is not known."""
        if self.short is None or (self.is_full_due and self.full.baseline is not None):
            return self.full
        return self.short

    @property
    def generated(self) -> int:
        """How many tokens the engines generated so far."""
        return sum(depth.asker.generated for depth in self.all)

    @property
    def all(self) -> tuple[Depth, ...]:
        """The full one first."""
        return (self.full,) if self.short is None else (self.full, self.short)

    def note(self, depth: Depth, *, found: bool) -> None:
        """A check of that depth came to its end; ``found`` says whether anything is wrong."""
        if found:
            self.since_full = self.full_every
        else:
            self.since_full = 0 if depth is self.full else self.since_full + 1


def depths_of(order: Begin, holder: Holder) -> Depths:
    """Choose the prompts of both.

    Raises:
        UsageError: they do not fit into the budget or the engine, or there are none.
    """
    prompts = canaries.choose(order, holder)
    full = Asker(holder, prompts, max_tokens=order.max_tokens, takes_salt=order.facts.takes_salt)
    short = Asker(
        holder,
        prompts[:SHORT_PROMPTS],
        max_tokens=min(SHORT_TOKENS, order.max_tokens),
        takes_salt=order.facts.takes_salt,
    )
    passes = order.budget_tokens // full.tokens_of_a_pass
    is_of_use = order.full_every > 1 and order.facts.in_float32 and len(prompts) > SHORT_PROMPTS
    return Depths(
        full=Depth(asker=full, passes=passes),
        short=Depth(asker=short, passes=passes) if is_of_use else None,
        full_every=order.full_every,
        since_full=order.full_every,
    )
