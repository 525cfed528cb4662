"""The clients of a server."""

from __future__ import annotations

import pytest

from harness.reaching import Access, headers_of
from harness.vllm_api import lifecycle
from harness.vllm_api.connection import Connection, connect
from harness.vllm_api.generation import GenerationRequest, generate
from tests.vllm_api.scripted import http, scripted

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0


async def test_proxies_of_the_environment_are_ignored(
    fake: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loopback server is spoken to directly, whatever the environment says about proxies."""
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with connect(fake.base_url) as connection:
        assert (await lifecycle.health(connection.http, deadline_s=DEADLINE_S)).ok
        assert len([model async for model in connection.openai.models.list()]) == 1


async def test_a_key_is_sent_with_every_request() -> None:
    """An attached server that needs a key gets it from both clients, and what else it is to be shown."""
    access = Access(headers=headers_of(("X-Team=search",), api_key="key"))
    request = GenerationRequest(prompt_token_ids=(5,), max_tokens=1, model="m", deadline_s=DEADLINE_S)
    async with scripted(http({})) as server, connect(server.connection.base_url, access=access) as connection:
        await lifecycle.version(connection.http, deadline_s=DEADLINE_S)
        await generate(connection.openai, request)
    assert [headers["authorization"] for headers in server.headers] == ["Bearer key", "Bearer key"]
    assert [headers["x-team"] for headers in server.headers] == ["search", "search"]
    assert "Bearer" not in repr(access)


async def test_no_connection_is_used_twice() -> None:
    """A connection kept alive could be closed by an idle server just when it is used again."""
    request = GenerationRequest(prompt_token_ids=(5,), max_tokens=1, model="m", deadline_s=DEADLINE_S)
    async with scripted(http({})) as server:
        await lifecycle.version(server.connection.http, deadline_s=DEADLINE_S)
        await generate(server.connection.openai, request)
    assert [headers["connection"] for headers in server.headers] == ["close", "close"]
