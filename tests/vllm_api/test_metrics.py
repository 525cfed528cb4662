"""``/metrics`` of several releases and states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.vllm_api.metrics import MetricsSnapshot, parse_metrics, read_metrics
from tests.vllm_api.scripted import http, scripted

DEADLINE_S = 30.0

V0_32 = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
# TYPE vllm:engine_sleep_state gauge
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 0.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 1.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="discard_all"} 0.0
# TYPE vllm:request_success counter
vllm:request_success_total{engine="0",model_name="m",finished_reason="stop"} 7.0
vllm:request_success_total{engine="0",model_name="m",finished_reason="abort"} 2.0
# TYPE vllm:corrupted_requests counter
vllm:corrupted_requests_total{engine="0",model_name="m"} 3.0
# TYPE vllm:corrupted_requests_created gauge
vllm:corrupted_requests_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1.234567e+06
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 960.0
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0",model_name="m"} 4.0
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 77.0
# TYPE vllm:spec_decode_num_draft_tokens counter
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} 30.0
# TYPE vllm:spec_decode_num_accepted_tokens counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 20.0
"""

V0_10 = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 0.0
# TYPE vllm:gpu_prefix_cache_queries counter
vllm:gpu_prefix_cache_queries_total{engine="0",model_name="m"} 10.0
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 10.0
"""

V0_8 = """\
# TYPE vllm:gpu_prefix_cache_queries_total counter
vllm:gpu_prefix_cache_queries_total{model_name="m"} 10.0
# TYPE vllm:gpu_prefix_cache_hits_total counter
vllm:gpu_prefix_cache_hits_total{model_name="m"} 5.0
"""


def sleep_state(*engines: str) -> str:
    """The sleep-state series of engines, each in the given state; ``none`` sets none of them."""
    return "# TYPE vllm:engine_sleep_state gauge\n" + "".join(
        f'vllm:engine_sleep_state{{engine="{number}",sleep_state="{state}"}} {float(state == current)}\n'
        for number, current in enumerate(engines)
        for state in ("awake", "weights_offloaded", "discard_all")
    )


def test_everything_of_the_newest_release() -> None:
    """All that 0.32 tells is read, and nothing that merely looks like it."""
    assert parse_metrics(V0_32) == MetricsSnapshot(
        sleep_state="weights_offloaded",
        started=None,
        requests_running=2,
        requests_waiting=1,
        requests_ended=9,
        requests_aborted=2,
        preemptions=4,
        prefix_cache_queries=1234567,
        prefix_cache_hits=960,
        generation_tokens=77,
        drafted_tokens=30,
        accepted_tokens=20,
        corrupted_requests=3,
    )


def test_how_the_cache_is_set_up_is_read() -> None:
    """It stands in labels, as text; nothing is made up where it is not told."""
    text = (
        "# TYPE vllm:cache_config_info gauge\n"
        'vllm:cache_config_info{block_size="32",enable_prefix_caching="True",engine="0"} 1.0\n'
    )
    told = parse_metrics(text).cache_config
    assert (told["block_size"], told["enable_prefix_caching"]) == ("32", "True")
    assert parse_metrics(V0_10).cache_config == {}


def test_a_metric_under_two_names_counts_once() -> None:
    """0.9 to 0.11 serve the prefix cache under its old and its new name."""
    assert parse_metrics(V0_10).prefix_cache_queries == 10


def test_old_names_are_read() -> None:
    """Up to 0.8 the prefix cache is the GPU's."""
    snapshot = parse_metrics(V0_8)
    assert (snapshot.prefix_cache_queries, snapshot.prefix_cache_hits) == (10, 5)


def test_what_an_engine_times_itself_is_read() -> None:
    """Of all engines together; sleeping apart from waking up, and what it does not time is left out."""
    text = """\
# TYPE vllm:e2e_request_latency_seconds histogram
vllm:e2e_request_latency_seconds_bucket{engine="0",le="+Inf"} 2.0
vllm:e2e_request_latency_seconds_count{engine="0"} 2.0
vllm:e2e_request_latency_seconds_sum{engine="0"} 3.5
vllm:e2e_request_latency_seconds_bucket{engine="1",le="+Inf"} 1.0
vllm:e2e_request_latency_seconds_count{engine="1"} 1.0
vllm:e2e_request_latency_seconds_sum{engine="1"} 0.5
# TYPE vllm:sleep_mode_operation_duration_seconds histogram
vllm:sleep_mode_operation_duration_seconds_bucket{operation="wake",le="+Inf"} 1.0
vllm:sleep_mode_operation_duration_seconds_count{operation="wake"} 1.0
vllm:sleep_mode_operation_duration_seconds_sum{operation="wake"} 0.6
"""
    assert parse_metrics(text).timings == {
        "answers_count": 3.0,
        "answers_seconds": 4.0,
        "wake_ups_count": 1.0,
        "wake_ups_seconds": 0.6,
    }
    assert parse_metrics(V0_10).timings == {}


def test_what_is_missing_is_none() -> None:
    """A metric the release does not have is unknown, not 0."""
    snapshot = parse_metrics(V0_10)
    assert snapshot.sleep_state is None
    assert snapshot.corrupted_requests is None
    assert snapshot.requests_running == 0


def test_engines_are_summed() -> None:
    """With data parallelism every engine has its series."""
    text = '# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine="0"} 1\n'
    assert parse_metrics(text + 'vllm:num_requests_running{engine="1"} 2\n').requests_running == 3


@pytest.mark.parametrize(
    ("engines", "state"),
    [
        (["awake"], "awake"),
        (["weights_offloaded"], "weights_offloaded"),
        (["discard_all"], "discard_all"),
        (["none"], "paused"),
        (["awake", "discard_all"], "discard_all"),
        (["awake", "weights_offloaded"], "weights_offloaded"),
    ],
)
def test_the_sleep_state_is_the_deepest_of_all_engines(engines: list[str], state: str) -> None:
    """The gauge has a series a state; the one that is set counts, the deepest of several engines."""
    assert parse_metrics(sleep_state(*engines)).sleep_state == state


@given(st.text())
def test_any_text_is_a_snapshot_or_a_value_error(text: str) -> None:
    """Whatever a server sends, parsing ends in one of two ways."""
    try:
        parse_metrics(text)
    except ValueError:
        return


@pytest.mark.anyio
async def test_what_cannot_be_parsed_is_a_protocol_error() -> None:
    """An answer that is no exposition is an error value."""
    async with scripted(http(b'vllm:broken{label="')) as server:
        reading = await read_metrics(server.connection.http, deadline_s=DEADLINE_S)
    assert reading.snapshot is None
    assert reading.error is not None
    assert reading.error.kind == "protocol"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raw", "deadline_s", "kind"),
    [(http({}, status="500 Oops"), DEADLINE_S, "http"), (None, 0.05, "timeout")],
)
async def test_a_failed_reading_says_why(raw: bytes | None, deadline_s: float, kind: str) -> None:
    """Without an answer there is no snapshot but an error."""
    async with scripted(raw) as server:
        reading = await read_metrics(server.connection.http, deadline_s=deadline_s)
    assert reading.snapshot is None
    assert reading.error is not None
    assert reading.error.kind == kind
