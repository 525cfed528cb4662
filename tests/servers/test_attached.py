"""The attached runtime, on a server that is somebody else's."""

import pytest

from harness.errors import ServerBootError, UsageError
from harness.servers.attached import AttachedRuntime, base_url_of
from harness.servers.base import Memory
from harness.servers.process.runtime import ProcessRuntime
from tests.servers.conftest import SpecFactory


@pytest.fixture
def unused_endpoint(free_tcp_port: int) -> str:
    """Return an address where nobody answers."""
    return f"http://127.0.0.1:{free_tcp_port}"


@pytest.mark.anyio
async def test_server_is_used_and_left_running(stranger_port: int, make_spec: SpecFactory) -> None:
    """A healthy server is entered, and is as healthy as before once left."""
    runtime = AttachedRuntime(endpoint=f"http://127.0.0.1:{stranger_port}/v1/")
    async with runtime.start(make_spec()) as server:
        assert server.base_url == f"http://127.0.0.1:{stranger_port}"
        assert server.facts.command is None
        assert await server.death() is None
        assert await server.measure_memory() == Memory(resident=None, device=None)
        assert server.log_tail() == ""
    runtime.check_available()
    assert runtime.sweep() == []
    assert not runtime.can_restart
    assert runtime.engine == server.facts.engine == "unknown"


@pytest.mark.anyio
async def test_unreachable_server(unused_endpoint: str, make_spec: SpecFactory) -> None:
    """An address where nobody answers is said at the deadline of a start."""
    runtime = AttachedRuntime(endpoint=unused_endpoint)
    with pytest.raises(ServerBootError, match=r"not ready after 0\.3 s"):
        async with runtime.start(make_spec(boot_deadline_s=0.3)):
            pytest.fail("there is nothing to enter")


@pytest.mark.anyio
async def test_death_is_seen_from_outside(runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
    """A server that stops answering while it is used counts as dead."""
    async with runtime.start(make_spec()) as ours:
        attached = AttachedRuntime(endpoint=ours.base_url).start(make_spec())
        server = await attached.__aenter__()
    assert "does not answer" in (await server.death() or "")
    await attached.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("endpoint", "base_url"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host:8000/v1", "http://host:8000"),
        ("https://host/team/v1/", "https://host/team"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_base_url(endpoint: str, base_url: str) -> None:
    """People paste endpoints with and without the path of the OpenAI API."""
    assert base_url_of(endpoint) == base_url


@pytest.mark.parametrize(
    "endpoint", ["", "host:8000", "ftp://host", "http://", "http://user:pw@host", "http://h:x"]
)
def test_unusable_endpoint(endpoint: str) -> None:
    """What is not a plain HTTP address is a usage error."""
    with pytest.raises(UsageError):
        base_url_of(endpoint)
