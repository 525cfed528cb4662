"""Whether the prefix cache vouches for blocks that it must have forgotten, and whether it is used at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from harness.check import lifecycle_calls
from harness.check.answer_pair import Reply, common_prefix, mostly_cached
from harness.check.evidence import Evidence
from harness.check.result import Finding, Strength
from harness.check.wording import counted, finding_about, occasion
from harness.history.observations import Call
from harness.history.passes import CacheCondition, PassStarted, Prompt


def check(evidence: Evidence) -> Iterator[Finding]:
    """Find prompts served from the cache by the first warm pass after a call that emptied it.

    Nothing can be cached then but what the prompts of that very pass share with each other.
    More than that is proof that block hashes outlived their blocks, even where the blocks'
    memory happens to hold the old content still and the answers come out right.
    """
    elsewhere = keeps_kv_elsewhere(evidence.recording.cell.arm_args)
    shared = _shared_prefixes(tuple(evidence.recording.prompts.values()))
    for reply, emptied in _first_warm_replies(evidence):
        if reply.cached > shared[reply.answer.prompt]:
            yield finding_about(
                reply,
                f"{reply.cached} prompt tokens came from the prefix cache although {_words(emptied)}",
                checker="cache",
                strength=Strength.HINT if elsewhere else Strength.PROOF,
                evidence={
                    "cached_tokens": reply.cached,
                    "shared_with_other_prompts": shared[reply.answer.prompt],
                },
            )


def unused(evidence: Evidence) -> Iterator[Finding]:
    """Find passes after a transition that read nothing from the cache, as the same prompts did before it.

    They ask again at once, so what they ask is cached; and as many prompts at a time fitted into the cache
    before.  Every answer is right then, and every prompt is computed anew.
    """
    prompts = evidence.recording.prompts
    before = {
        (reply.answer.prompt, reply.start.adapter, reply.start.concurrency)
        for reply in (*evidence.baseline_replies, *evidence.null_replies)
        if mostly_cached(reply, prompts[reply.answer.prompt])
    }
    for start, replies in _asked_again(evidence):
        known = [
            reply for reply in replies if (reply.answer.prompt, start.adapter, start.concurrency) in before
        ]
        if 2 * len(known) > len(replies) and not any(reply.cached for reply in replies):
            yield Finding(
                checker="cache",
                message=(
                    f"{occasion(start)}: the prefix cache is not used any more: none of "
                    f"{counted(len(replies), 'prompt')} asked again came from it, before the transition "
                    f"{len(known)} did"
                ),
                strength=Strength.PROOF,
                pass_number=start.number,
                cycle=start.cycle,
                evidence={"cached_before": len(known), "cached_after": 0},
            )


def _asked_again(evidence: Evidence) -> Iterator[tuple[PassStarted, list[Reply]]]:
    """Passes after a transition that ask what must be cached, where the server tells of each what was."""
    passes: dict[int, list[Reply]] = {}
    for reply in evidence.after_replies:
        if reply.start.cache is CacheCondition.REHIT and reply.answer.failure is None:
            passes.setdefault(reply.start.number, []).append(reply)
    for replies in passes.values():
        if all(reply.answer.cached_tokens is not None for reply in replies):
            yield replies[0].start, replies


def keeps_kv_elsewhere(args: Sequence[str]) -> bool:
    """Whether an engine with these flags may hold KV blocks outside the memory that a sleep discards."""
    return any(arg.startswith(("--kv-transfer-config", "--kv-offloading")) for arg in args)


def _words(call: Call) -> str:
    if call.path == "/sleep":
        return "the sleep before had discarded the KV cache"
    return f"{call.path} had emptied the cache before"


def _first_warm_replies(evidence: Evidence) -> Iterator[tuple[Reply, Call]]:
    """Replies under the cell's own salt that nothing but their own pass can have put into the cache.

    Each with the call that had emptied it.  What another adapter, or the base model, has put there is not
    for them.
    """
    filled = [
        (each.start.adapter, each.start.t)
        for each in evidence.recording.passes
        if _fills_cache(evidence, each.start)
    ]
    for reply in evidence.after_replies:
        start = reply.start
        emptied = lifecycle_calls.last_emptying(evidence.recording, before=start.t)
        if reply.shares_salt and emptied is not None:
            since = ((adapter, t) for adapter, t in filled if emptied.t < t < start.t)
            if not any(adapter == start.adapter for adapter, _ in since):
                yield reply, emptied


def _fills_cache(evidence: Evidence, start: PassStarted) -> bool:
    """Whether a pass leaves behind what later warm passes may read.

    A cold one does where the release has no salts: then it resets the cache instead, just
    before it begins.
    """
    if start.cache is not CacheCondition.COLD:
        return True
    recording = evidence.recording
    earlier = max((each.start.t for each in recording.passes if each.start.t < start.t), default=0.0)
    return any(
        call.path == "/reset_prefix_cache" and call.step == start.step and earlier < call.t < start.t
        for call in recording.calls
    )


def _shared_prefixes(prompts: Sequence[Prompt]) -> dict[str, int]:
    """For every prompt, the most leading tokens it has in common with any other one.

    In sorted order a prompt's nearest relative stands next to it.
    """
    ordered = sorted(prompts, key=lambda prompt: prompt.token_ids)
    longest = dict.fromkeys((prompt.id for prompt in ordered), 0)
    for left, right in pairwise(ordered):
        common = common_prefix(left.token_ids, right.token_ids)
        longest[left.id] = max(longest[left.id], common)
        longest[right.id] = max(longest[right.id], common)
    return longest
