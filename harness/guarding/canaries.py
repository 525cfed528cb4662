"""Which prompts a guard asks, again and again."""

from __future__ import annotations

from collections.abc import Sequence

from harness.check.noise.budget import budget_of_check
from harness.check.noise.calibration import prompts_in_noise
from harness.errors import UsageError
from harness.guarding.asking import Holder, tokenize
from harness.guarding.messages import Begin
from harness.history.passes import Prompt
from harness.scenario.corpus import load_canaries

CANARIES = 8
"""How many are asked where nothing differs by itself."""

MOST_PASSES = 2
"""Of one check: what is cached is read, and what was read then is read again."""

CHECKS_IN_NOISE = 1000
"""For so many checks there are prompts enough, where answers differ by themselves, to tell damage from it."""


def choose(order: Begin, holder: Holder) -> tuple[Prompt, ...]:
    """The canaries as the engine's own tokenizer makes them: the user's, or some of those that ship.

    An engine that does not say it computes in float32 is taken for one whose answers differ by themselves.

    Raises:
        UsageError: they do not fit into the budget or the engine, or there are none.
    """
    if order.prompts is not None:
        prompts = _own(order.prompts, holder)
    else:
        prompts = _shipped(_needed(in_float32=order.facts.in_float32), holder)
    _require_fit(prompts, order)
    return prompts


def _needed(*, in_float32: bool) -> int:
    in_noise = prompts_in_noise(MOST_PASSES, budget=budget_of_check(CHECKS_IN_NOISE))
    return CANARIES if in_float32 else max(CANARIES, in_noise)


def _shipped(count: int, holder: Holder) -> tuple[Prompt, ...]:
    corpus = load_canaries()[:count]
    tokens = tokenize(holder, [each.text for each in corpus])
    return tuple(
        Prompt(id=each.id, text=each.text, token_ids=token_ids)
        for each, token_ids in zip(corpus, tokens, strict=True)
    )


def _own(given: Sequence[str | tuple[int, ...]], holder: Holder) -> tuple[Prompt, ...]:
    texts = [each for each in given if isinstance(each, str)]
    tokenized = iter(tokenize(holder, texts)) if texts else iter(())
    return tuple(
        Prompt(
            id=f"prompt-{number}",
            text=each if isinstance(each, str) else "",
            token_ids=next(tokenized) if isinstance(each, str) else each,
        )
        for number, each in enumerate(given, start=1)
    )


def _require_fit(prompts: Sequence[Prompt], order: Begin) -> None:
    if not prompts:
        raise UsageError("there are no prompts to ask", remedy="give some, or leave `prompts` out")
    needed = len(prompts) * order.max_tokens
    if needed > order.budget_tokens:
        raise UsageError(
            f"a check asks {len(prompts)} prompts for {order.max_tokens} tokens each, "
            f"which is more than budget_tokens={order.budget_tokens}",
            remedy=f"allow {needed}, or ask fewer prompts or for fewer tokens",
        )
    room = order.facts.told("model_config", "max_model_len")
    longest = max(len(prompt.token_ids) for prompt in prompts) + order.max_tokens
    if isinstance(room, int) and longest > room:
        raise UsageError(
            f"the longest prompt and its answer take {longest} tokens, the engine has room for {room}",
            remedy="give shorter prompts, or ask for fewer tokens",
        )
