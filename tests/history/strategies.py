"""Events of every kind, made by Hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from harness.history.event_base import CallFailure
from harness.history.events import (
    CellFailed,
    CellFinished,
    CellShortened,
    CellStarted,
    Event,
    FirstTokenMissing,
    FirstTokensTimed,
    HarnessStopped,
    MachineLoad,
    ServerLeftDamaged,
    ServerReady,
)
from harness.history.observations import Call, Observation, StepFinished, StepStarted, WeightChecksums
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import (
    Answer,
    CacheCondition,
    Control,
    PassStarted,
    Prompt,
    PromptsPrepared,
    RequestEnded,
    RequestRunning,
    RequestStarted,
    Role,
    Waited,
)

# Surrogates have no UTF-8 form; what a tokenizer makes of broken bytes is U+FFFD.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
times = st.floats(0, 1e6, allow_nan=False)
numbers = st.integers(0, 2**31 - 1)
token_ids = st.lists(numbers, max_size=5).map(tuple)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
failures = st.builds(
    CallFailure,
    kind=st.sampled_from(["timeout", "hang", "connection", "http", "protocol"]),
    message=text,
    status=st.none() | numbers,
)


def cell_started(**changes: object) -> CellStarted:
    """Make a first event, with some fields changed."""
    fields = {
        "t": 0,
        "run": "run",
        "cell": "scenario/arm",
        "scenario": "scenario",
        "why": "because",
        "sources": ["vllm#17103"],
        "arm": "arm",
        "arm_args": ["--enforce-eager"],
        "arm_env": {"A": "b"},
        "script": [{"probe": {"name": "baseline"}}],
        "max_tokens": 8,
        "temperature": 0,
        "concurrency": 2,
        "fault": None,
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    return CellStarted.model_validate({**fields, **changes})


@st.composite
def logprobs(draw: st.DrawFn) -> Logprobs:
    """Tables of any size, without candidates too, and any values, infinities and NaN included."""
    rows, k = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    values = st.floats(width=32)

    def floats(count: int) -> list[float]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = draw(st.lists(st.integers(-1, 2**31 - 1), min_size=rows * k, max_size=rows * k))
    return Logprobs.pack(
        chosen=np.array(floats(rows), dtype=np.float32),
        top_ids=np.array(ids, dtype=np.int32).reshape(rows, k),
        top_values=np.array(floats(rows * k), dtype=np.float32).reshape(rows, k),
    )


def events() -> st.SearchStrategy[Event]:
    """Events of every kind."""
    return st.one_of(
        st.builds(cell_started, t=times, why=text, arm_env=st.dictionaries(text, text, max_size=2)),
        st.builds(
            ServerReady, t=times, boot_seconds=times, configuration=json_values, environment=json_values
        ),
        st.builds(
            PromptsPrepared,
            t=times,
            prompts=st.lists(st.builds(Prompt, id=text, text=text, token_ids=token_ids), max_size=2).map(
                tuple
            ),
            end_of_sequence_ids=token_ids,
        ),
        st.builds(
            StepStarted, t=times, options=st.dictionaries(text, json_values, max_size=2), cycle=numbers
        ),
        st.builds(StepFinished, t=times, seconds=times, unconfirmed=st.lists(text, max_size=2).map(tuple)),
        st.builds(
            Call,
            t=times,
            parameters=st.dictionaries(text, json_values, max_size=2),
            body=json_values,
            seconds=times,
            failure=st.none() | failures,
        ),
        st.builds(ServerLeftDamaged, t=times, next_cell=text, because=text),
        st.builds(HarnessStopped, t=times, seconds=times, suspended_seconds=times),
        st.builds(FirstTokensTimed, t=times, seconds=st.lists(times, min_size=1, max_size=3).map(tuple)),
        st.builds(FirstTokenMissing, t=times, seconds=times, failure=failures),
        st.builds(
            MachineLoad,
            t=times,
            seconds=times,
            cores=st.integers(1, 8),
            pass_number=st.none() | numbers,
            busy_seconds=times,
            own_seconds=times,
            engine_seconds=times,
            throttled_seconds=st.none() | times,
        ),
        st.builds(
            Waited,
            t=times,
            step=st.none() | text,
            pass_number=st.none() | numbers,
            seconds=times,
            still_seconds=st.none() | times,
            counters_still_seconds=times,
            generated_tokens=st.none() | numbers,
            cpu_seconds=st.none() | times,
            would_take_seconds=st.none() | times,
        ),
        st.builds(RequestStarted, t=times, number=numbers),
        st.builds(RequestRunning, t=times, number=numbers),
        st.builds(
            RequestEnded,
            t=times,
            token_ids=token_ids,
            finish_reasons=st.lists(text, max_size=2).map(tuple),
            seconds=times,
            failure=st.none() | failures,
        ),
        st.builds(
            Observation,
            t=times,
            memory_by_process=st.dictionaries(text, numbers, max_size=2),
            counters=st.dictionaries(text, times, max_size=2),
        ),
        st.builds(WeightChecksums, t=times, checksums=st.none() | st.dictionaries(text, text, max_size=2)),
        st.builds(
            PassStarted,
            t=times,
            role=st.sampled_from(Role),
            cache=st.sampled_from(CacheCondition),
            control=st.none() | st.sampled_from(Control),
        ),
        st.builds(
            Answer,
            t=times,
            text=text,
            token_ids=token_ids,
            seconds=times,
            stop_reason=st.none() | text | numbers,
            logprobs=st.none() | logprobs(),
            failure=st.none() | failures,
        ),
        st.builds(CellFailed, t=times, error=text, cause=text, remedy=text),
        st.builds(CellShortened, t=times, skipped=st.lists(text, max_size=2).map(tuple)),
        st.builds(CellFinished, t=times),
    )
