"""What a guard's histories are made of, besides answers: the engine, and what was done to it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from pydantic import JsonValue

from harness.drive.recorder import Recorder
from harness.guarding.endpoint import ENDPOINT
from harness.guarding.messages import Facts, NoticedCall
from harness.guarding.passes import Asker
from harness.history.event_base import CallFailure
from harness.history.events import CellStarted, Event, ServerReady
from harness.history.observations import Call, StepFinished, StepStarted
from harness.history.passes import PromptsPrepared
from harness.servers.attached import NOT_KNOWN
from harness.servers.base import EMULATED_CPU_SLEEP
from harness.servers.flags import uses_cpu_sleep

RUNTIME = "guarded"

UNNOTICED = "unnoticed_change"
"""The action of a step in which nothing was noticed: what was done to the engine went past its methods."""

_ENDPOINTS = {"pause_generation": "pause", "resume_generation": "resume"}
"""Endpoints that are called otherwise than the method that does the same."""

_RENAMED = {"collective_rpc": "method"}
"""Calls that are named after one of their parameters, where it is given."""


def beginning(
    facts: Facts, *, run: str, cell: str, t: float, max_tokens: int, concurrency: int, why: str
) -> CellStarted:
    """The first event of a history."""
    return CellStarted(
        t=t,
        run=run,
        cell=cell,
        scenario=cell,
        why=why,
        sources=(),
        arm=facts.engine,
        arm_args=tuple(_flags(facts)),
        arm_env={},
        script=(),
        max_tokens=max_tokens,
        temperature=0.0,
        concurrency=concurrency,
        fault=os.environ.get("SLEEPWAKE_FAULT") or None,
        started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _flags(facts: Facts) -> Iterator[str]:
    """The engine's configuration as far as flags of a server say it."""
    yield "--enable-prefix-caching" if facts.caches_prompts else "--no-enable-prefix-caching"
    if facts.keeps_kv_elsewhere:
        yield "--kv-transfer-config"


def introduce(recorder: Recorder, facts: Facts, asker: Asker) -> None:
    """Record what the engine is and what it is asked."""
    block_size = facts.told("cache_config", "block_size")
    end = facts.end_of_sequence_id
    recorder.record(
        ServerReady(
            t=recorder.now(),
            runtime=RUNTIME,
            command=f"{facts.engine}(model={facts.told('model_config', 'model')!r})",
            vllm_version=facts.vllm_version,
            boot_seconds=0.0,
            emulated=_emulated(facts),
            configuration={part: dict(told) for part, told in facts.configuration.items()},
        )
    )
    recorder.record(
        PromptsPrepared(
            t=recorder.now(),
            prompts=asker.canaries,
            end_of_sequence_ids=() if end is None else (end,),
            vocabulary_size=facts.vocabulary_size,
            block_size=block_size if isinstance(block_size, int) else None,
        )
    )


def _emulated(facts: Facts) -> tuple[str, ...]:
    if facts.engine == ENDPOINT:
        return (NOT_KNOWN,)
    return (EMULATED_CPU_SLEEP,) if uses_cpu_sleep(os.environ) else ()


@contextmanager
def asking(recorder: Recorder, step: str, action: str) -> Iterator[None]:
    """A step that asks."""
    began = recorder.now()
    recorder.record(_step(step, action, {}, t=began, changes_engine=False, seen=False))
    yield
    ended = recorder.now()
    recorder.record(StepFinished(t=ended, step=step, seconds=ended - began))


def record_calls(recorder: Recorder, calls: Sequence[NoticedCall], *, since: float, first: int) -> int:
    """Record what was noticed, each call as a step; where nothing was, that anything may have happened.

    Args:
        recorder: Takes it.
        calls: The calls, in order.
        since: Before this moment nothing of it happened.
        first: The number of the first step.

    Returns:
        The number of the next step.
    """
    now = recorder.now()
    if not calls:
        recorder.record(_step(str(first), UNNOTICED, {}, t=now, changes_engine=True, seen=True))
        recorder.record(StepFinished(t=now, step=str(first), seconds=0.0))
        return first + 1
    for number, call in enumerate(calls, start=first):
        since = max(since, now - call.ago)
        for event in _events(call, step=str(number), t=since):
            recorder.record(event)
    return first + len(calls)


def _events(call: NoticedCall, *, step: str, t: float) -> Iterator[Event]:
    options = {name: value for name, value in call.parameters.items() if value is not None}
    action = str(options.pop(_RENAMED.get(call.name, ""), _ENDPOINTS.get(call.name, call.name)))
    yield _step(step, action, options, t=t, changes_engine=True, seen=True)
    failure = None if call.failure is None else CallFailure(kind="protocol", message=call.failure)
    yield Call(
        t=t,
        step=step,
        method=call.method,
        path=f"/{_ENDPOINTS.get(call.name, call.name)}",
        parameters=call.parameters,
        sends_json=True,
        status=None,
        body={"success": call.result} if call.name == "reset_prefix_cache" else call.result,
        seconds=call.seconds,
        failure=failure,
    )
    yield StepFinished(t=t + call.seconds, step=step, seconds=call.seconds)


def _step(
    step: str, action: str, options: Mapping[str, JsonValue], *, t: float, changes_engine: bool, seen: bool
) -> StepStarted:
    return StepStarted(
        t=t,
        step=step,
        action=action,
        options=options,
        cycle=0,
        changes_engine=changes_engine,
        takes_memory=True,
        only_adapter=None,
        asleep_after=None,
        seen=seen,
    )
