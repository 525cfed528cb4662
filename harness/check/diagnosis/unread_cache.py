"""Whether a prefix cache that gives back what it must not could have shown: only where it was read."""

from __future__ import annotations

from collections.abc import Iterator

from harness.check.evidence import Evidence
from harness.check.told_configuration import told
from harness.history.passes import CacheCondition, Prompt, Role
from harness.history.recording import Recording

CACHE_ON, CACHE_OFF = "--enable-prefix-caching", "--no-enable-prefix-caching"

_NEVER_READ = "no prompt was ever served from the prefix cache, so a stale one would not have been noticed"


def obstacles(evidence: Evidence) -> Iterator[str]:
    """Yield what keeps the prefix cache from having been put to the test, with what would settle it."""
    recording = evidence.recording
    if not prefix_caching_is_on(recording.cell.arm_args):
        return
    answers = [answer for each in recording.passes for answer in each.answers.values()]
    if any(answer.cached_tokens for answer in answers):
        return
    if any(answer.cached_tokens is not None for answer in answers) or _none_fills_a_block(recording):
        yield f"{_NEVER_READ}: {_why_never_read(recording)}"
    elif not _hits(recording):
        yield (
            "nothing shows that the prefix cache was ever read, so a stale one would not have been noticed: "
            "start the server with --enable-prompt-tokens-details"
        )
    elif (asked := _asked_again_since(evidence)) and not _hits_grow(recording, asked):
        yield (
            "nothing shows that the prefix cache was read after the transition, so damage to what was cached "
            "since would not have been noticed: start the server with --enable-prompt-tokens-details"
        )


def prefix_caching_is_on(args: tuple[str, ...]) -> bool:
    """Whether an arm's flags turn prefix caching on; as with argparse, the last word counts."""
    words = [arg for arg in args if arg in {CACHE_ON, CACHE_OFF}]
    return bool(words) and words[-1] == CACHE_ON


def _why_never_read(recording: Recording) -> str:
    block = recording.block_size
    asked = _asked(recording)
    if block is None or _none_fills_a_block(recording):
        return f"use prompts longer than a KV block{f' of {block} tokens' if block else ''}"
    larger = "ask fewer prompts, or give the engine a larger KV cache"
    needed = sum(len(prompt.token_ids) + recording.cell.max_tokens for prompt in asked)
    room = _room(recording)
    if room is None:
        return f"the engine keeps none, or they were displaced before they could be read again: {larger}"
    if room < needed:
        return (
            f"cached blocks were displaced before they could be read again (there is room for {room} tokens, "
            f"the prompts and their answers take up to {needed}): {larger}"
        )
    return (
        "prompts are longer than a KV block and the cache has room for all, so the engine keeps none: "
        "see what its log says of prefix caching"
    )


def _asked(recording: Recording) -> list[Prompt]:
    return [prompt for prompt in recording.prompts.values() if not prompt.held_out]


def _none_fills_a_block(recording: Recording) -> bool:
    """Whether it is known that no prompt is as long as what the cache keeps at a time."""
    block = recording.block_size
    return block is not None and not any(len(prompt.token_ids) > block for prompt in _asked(recording))


def _room(recording: Recording) -> int | None:
    """How many tokens the KV cache holds; None where the server does not tell."""
    blocks = told(recording, "cache_config", "num_gpu_blocks")
    return blocks * recording.block_size if isinstance(blocks, int) and recording.block_size else None


def _asked_again_since(evidence: Evidence) -> frozenset[str]:
    """The steps after a transition that ask what must be cached by then."""
    return frozenset(
        each.start.step
        for each in evidence.recording.passes
        if each.start.cache is CacheCondition.REHIT and each.start.role is Role.AFTER
    )


def _hits(recording: Recording) -> bool:
    return any(seen.counters.get("prefix_cache_hits", 0) > 0 for seen in recording.observations)


def _hits_grow(recording: Recording, steps: frozenset[str]) -> bool:
    """Whether the engine counted hits during one of ``steps``."""
    for step in steps:
        counted = [
            seen.counters["prefix_cache_hits"]
            for seen in recording.observations
            if seen.step == step and "prefix_cache_hits" in seen.counters
        ]
        if counted and counted[-1] > counted[0]:
            return True
    return False
