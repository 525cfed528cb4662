"""How long a run on a server that is not ours will take: counted from the scripts, timed by one batch."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator

import anyio
from pydantic import JsonValue

from harness.drive.conditions import Condition, each_concurrency, plan, repeated
from harness.drive.guest.asking import LOOK_DEADLINE_S
from harness.drive.introduction import served_names
from harness.drive.script import unrolled
from harness.history.passes import Method, Role
from harness.scenario.cells import Cell
from harness.scenario.schema import Scenario
from harness.scenario.steps.asking import NullTransition, Probe
from harness.vllm_api.calls import call
from harness.vllm_api.connection import Connection

TRIED_TOKENS = 16
_PROMPT = "Tell me, in plain words and in the order in which they happened, what you remember of that day. "
_REPEATED = 4
"""Sentences of the prompt that is timed: about as long as those of the shipped scenarios."""
_NULL_PASSES = 1
"""What a null transition asks where answers do not differ by themselves."""


async def tokens_per_second(connection: Connection, cells: Iterable[Cell]) -> float | None:
    """How fast the server answers as many requests at once as ``cells`` send; None where it answers none.

    Every request has a cache salt of its own, so that nobody's prompts are served from what is left behind.
    """
    names = await served_names(connection.http, deadline_s=LOOK_DEADLINE_S)
    at_a_time = max(each for cell in cells for each in each_concurrency(cell.scenario.concurrency))
    answered: list[bool] = []

    async def ask() -> None:
        asked: dict[str, JsonValue] = {
            "model": names[0],
            "prompt": _PROMPT * _REPEATED,
            "max_tokens": TRIED_TOKENS,
            "ignore_eos": True,
            "temperature": 0,
            "cache_salt": secrets.token_hex(8),
        }
        result = await call(
            connection.http, "POST", "/v1/completions", payload=asked, deadline_s=LOOK_DEADLINE_S
        )
        answered.append(result.ok)

    if not names:
        return None
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(at_a_time):
            group.start_soon(ask)
    seconds = anyio.current_time() - began
    return TRIED_TOKENS * at_a_time / seconds if all(answered) else None


def tokens_asked(cells: Iterable[Cell]) -> int:
    """How many tokens the scripts of ``cells`` ask for where nothing is found, at the most."""
    return sum(
        sum(_passes(cell.scenario)) * cell.scenario.prompts.count * cell.scenario.sampling.max_tokens
        for cell in cells
    )


def _passes(scenario: Scenario) -> Iterator[int]:
    """How often each step of the script has all prompts answered."""
    baseline: tuple[Condition, ...] = ()
    for placed in unrolled(scenario.script):
        match placed.step:
            case Probe(probe=options):
                is_baseline = options.baseline or not baseline
                role = Role.BASELINE if is_baseline else Role.AFTER
                passes = plan(scenario, options, role=role).passes
                baseline = baseline or passes
                yield sum(each.method is not Method.SCORED for each in passes)
            case NullTransition(null_transition=options):
                yield (options.passes or _NULL_PASSES) * len(repeated(baseline, options.evidence))
