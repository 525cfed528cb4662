"""The lifecycle calls: what each sends, and how their failures look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import httpx
import pytest

from harness.vllm_api import lifecycle
from harness.vllm_api.calls import TEXT_LIMIT, CallResult, call
from harness.vllm_api.connection import connect
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.options import Options
from tests.fake_vllm.serving import serve
from tests.vllm_api.scripted import http, scripted

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0
"""For what must not take long, however busy the machine is."""

Ask = Callable[[httpx.AsyncClient], Awaitable[CallResult]]

CALLS: list[tuple[Ask, str, str]] = [
    (lambda client: lifecycle.sleep(client, level=2, deadline_s=DEADLINE_S), "POST /sleep?level=2", ""),
    (
        lambda client: lifecycle.sleep(client, level=1, mode="keep", deadline_s=DEADLINE_S),
        "POST /sleep?level=1&mode=keep",
        "",
    ),
    (lambda client: lifecycle.wake_up(client, deadline_s=DEADLINE_S), "POST /wake_up", ""),
    (
        lambda client: lifecycle.wake_up(client, tags=["weights", "kv_cache"], deadline_s=DEADLINE_S),
        "POST /wake_up?tags=weights&tags=kv_cache",
        "",
    ),
    (lambda client: lifecycle.is_sleeping(client, deadline_s=DEADLINE_S), "GET /is_sleeping", ""),
    (
        lambda client: lifecycle.reload_weights(client, deadline_s=DEADLINE_S),
        "POST /collective_rpc",
        '{"method":"reload_weights"}',
    ),
    (
        lambda client: lifecycle.reload_weights(client, path="/m", deadline_s=DEADLINE_S),
        "POST /collective_rpc",
        '{"method":"reload_weights","kwargs":{"weights_path":"/m"}}',
    ),
    (
        lambda client: lifecycle.reset_prefix_cache(client, deadline_s=DEADLINE_S),
        "POST /reset_prefix_cache",
        "",
    ),
    (
        lambda client: lifecycle.reset_prefix_cache(
            client, running_requests=True, external=True, deadline_s=DEADLINE_S
        ),
        "POST /reset_prefix_cache?reset_running_requests=true&reset_external=true",
        "",
    ),
    (lambda client: lifecycle.reset_mm_cache(client, deadline_s=DEADLINE_S), "POST /reset_mm_cache", ""),
    (
        lambda client: lifecycle.reset_encoder_cache(client, deadline_s=DEADLINE_S),
        "POST /reset_encoder_cache",
        "",
    ),
    (
        lambda client: lifecycle.pause(client, mode="wait", clear_cache=False, deadline_s=DEADLINE_S),
        "POST /pause?mode=wait&clear_cache=false",
        "",
    ),
    (lambda client: lifecycle.pause(client, deadline_s=DEADLINE_S), "POST /pause", ""),
    (lambda client: lifecycle.resume(client, deadline_s=DEADLINE_S), "POST /resume", ""),
    (
        lambda client: lifecycle.abort_requests(client, deadline_s=DEADLINE_S),
        "POST /abort_requests",
        "{}",
    ),
    (lambda client: lifecycle.is_paused(client, deadline_s=DEADLINE_S), "GET /is_paused", ""),
    (
        lambda client: lifecycle.release_kv_cache_memory(client, deadline_s=DEADLINE_S),
        "POST /release_kv_cache_memory",
        "",
    ),
    (
        lambda client: lifecycle.weight_checksums(client, deadline_s=DEADLINE_S),
        "POST /weight_checker",
        '{"action":"checksum"}',
    ),
    (
        lambda client: lifecycle.load_lora_adapter(client, name="a", path="/a", deadline_s=DEADLINE_S),
        "POST /v1/load_lora_adapter",
        '{"lora_name":"a","lora_path":"/a"}',
    ),
    (
        lambda client: lifecycle.load_lora_adapter(
            client, name="a", path="/b", load_inplace=True, deadline_s=DEADLINE_S
        ),
        "POST /v1/load_lora_adapter",
        '{"lora_name":"a","lora_path":"/b","load_inplace":true}',
    ),
    (
        lambda client: lifecycle.unload_lora_adapter(client, name="a", deadline_s=DEADLINE_S),
        "POST /v1/unload_lora_adapter",
        '{"lora_name":"a"}',
    ),
    (
        lambda client: lifecycle.tokenize_text(client, "text", deadline_s=DEADLINE_S),
        "POST /tokenize",
        '{"prompt":"text"}',
    ),
    (
        lambda client: lifecycle.tokenize_chat(
            client, [{"role": "user", "content": "hi"}], model="m", deadline_s=DEADLINE_S
        ),
        "POST /tokenize",
        '{"messages":[{"role":"user","content":"hi"}],"model":"m"}',
    ),
    (lambda client: lifecycle.models(client, deadline_s=DEADLINE_S), "GET /v1/models", ""),
    (
        lambda client: lifecycle.server_info(client, deadline_s=DEADLINE_S),
        "GET /server_info?config_format=json",
        "",
    ),
    (lambda client: lifecycle.version(client, deadline_s=DEADLINE_S), "GET /version", ""),
    (lambda client: lifecycle.health(client, deadline_s=DEADLINE_S), "GET /health", ""),
]


@pytest.mark.parametrize(("ask", "line", "body"), CALLS, ids=[line for _, line, _ in CALLS])
async def test_each_sends_what_vllm_reads(ask: Ask, line: str, body: str) -> None:
    """Method, path, query and body are those of vLLM's routes, and are kept in the result."""
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        seen.extend((f"{request.method} {path}", request.content.decode()))
        return httpx.Response(200, json={"answer": 1})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://server") as client:
        result = await ask(client)
    assert seen == [line, body]
    assert f"{result.method} {result.path}" == line.partition("?")[0]
    assert (result.ok, result.status, result.field("answer")) == (True, 200, 1)


class TestCall:
    """One HTTP call as a value."""

    async def test_a_refusal_keeps_body_and_words(self) -> None:
        """A status of 400 or above is an error whose message is vLLM's."""
        body = {"error": {"message": "no such level", "type": "Bad Request", "param": None, "code": 400}}
        async with scripted(http(body, status="400 Bad Request")) as server:
            result = await call(server.connection.http, "POST", "/sleep", deadline_s=DEADLINE_S)
        assert result.error is not None
        assert (result.error.kind, result.error.status, result.error.message) == (
            "http",
            400,
            "no such level",
        )
        assert (result.ok, result.body, result.field("error")) == (False, body, None)

    @pytest.mark.parametrize(
        ("status", "body", "unavailable"),
        [
            ("404 Not Found", {"detail": "Not Found"}, True),
            ("404 Not Found", {"error": {"message": "Not Found", "code": 404}}, True),
            ("404 Not Found", {"object": "error", "message": "Not Found", "code": 404}, True),
            ("404 Not Found", {"error": {"message": "The model `x` does not exist.", "code": 404}}, False),
            ("405 Method Not Allowed", {"detail": "Method Not Allowed"}, True),
            ("500 Internal Server Error", {"detail": "Not Found"}, False),
        ],
    )
    async def test_a_missing_endpoint_is_told_from_a_refusal(
        self, status: str, body: object, *, unavailable: bool
    ) -> None:
        """``unavailable`` means the route, in every release's words, not what was asked of it."""
        async with scripted(http(body, status=status)) as server:
            result = await call(server.connection.http, "POST", "/x", deadline_s=DEADLINE_S)
        assert result.unavailable is unavailable

    async def test_text_is_kept_but_not_all_of_it(self) -> None:
        """A body that is not JSON is kept as text, shortened; no body is ``None``."""
        async with scripted(http(b"x" * 100_000)) as server:
            assert (
                len(str((await call(server.connection.http, "GET", "/", deadline_s=DEADLINE_S)).body))
                == TEXT_LIMIT
            )
        async with scripted(http(b"")) as server:
            assert (await call(server.connection.http, "GET", "/", deadline_s=DEADLINE_S)).body is None

    async def test_no_answer_is_a_timeout(self) -> None:
        """A call ends at its deadline, and the server sees that the client has left."""
        async with scripted(None) as server:
            result = await call(server.connection.http, "POST", "/wake_up", deadline_s=0.5)
            with anyio.fail_after(DEADLINE_S):
                await server.client_left.wait()
        assert result.error is not None
        assert (result.error.kind, result.status, result.body) == ("timeout", None, None)
        assert result.seconds >= 0.5

    async def test_a_broken_connection_is_an_error(self) -> None:
        """A server that hangs up without an answer is a connection error."""
        async with scripted(b"") as server:
            result = await call(server.connection.http, "POST", "/sleep", deadline_s=DEADLINE_S)
        assert result.error is not None
        assert result.error.kind == "connection"
        assert "RemoteProtocolError" in result.error.message

    async def test_cancellation_passes_through(self) -> None:
        """A cancelled call closes its connection and returns nothing."""
        async with scripted(None) as server:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(call, server.connection.http, "POST", "/sleep", deadline_s=60))
                with anyio.fail_after(DEADLINE_S):
                    while not server.requests:
                        await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            with anyio.fail_after(DEADLINE_S):
                await server.client_left.wait()


async def test_without_development_mode_the_lifecycle_is_unavailable() -> None:
    """A server that was not started for development says so, rather than refusing."""
    async with serve(Options(dev_mode=False, runtime_lora=False)) as url, connect(url) as connection:
        slept = await lifecycle.sleep(connection.http, level=1, deadline_s=DEADLINE_S)
        loaded = await lifecycle.load_lora_adapter(connection.http, name="a", path="a", deadline_s=DEADLINE_S)
        healthy = await lifecycle.health(connection.http, deadline_s=DEADLINE_S)
    assert (slept.unavailable, loaded.unavailable, healthy.ok) == (True, True, True)


async def test_a_failing_wake_up_is_a_value() -> None:
    """HTTP 500 comes back as a result, and the engine can be asked on."""
    options = Options(misbehaviour=Misbehaviour({Behaviour.WAKE_UP_FAILS: 0}))
    async with serve(options) as url, connect(url) as connection:
        await lifecycle.sleep(connection.http, level=1, deadline_s=DEADLINE_S)
        woken = await lifecycle.wake_up(connection.http, deadline_s=DEADLINE_S)
        asked = await lifecycle.is_sleeping(connection.http, deadline_s=DEADLINE_S)
    assert (woken.ok, woken.status, asked.field("is_sleeping")) == (False, 500, True)
