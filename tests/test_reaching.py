"""How a server is reached: over IPv6, with a certificate of one's own, through a proxy or past it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from harness.errors import UsageError
from harness.reaching import NOTHING_SPECIAL, Access

pytestmark = pytest.mark.anyio
OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="certificates are made by openssl")


@pytest.fixture
def anyio_backend() -> str:
    """These talk over real sockets."""
    return "asyncio"


@dataclass
class Seen:
    """A server that answers everything with 200, and what it was asked."""

    url: str = ""
    targets: list[str] = field(default_factory=list)
    """The first line of every request."""
    shown: list[str] = field(default_factory=list)
    """Whose certificate each client showed."""


@asynccontextmanager
async def serving(*, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Seen]:
    """Serve on a free port."""
    seen = Seen()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.targets.append(head.decode().splitlines()[0])
        certificate = writer.get_extra_info("peercert")
        if certificate:
            seen.shown.append(certificate["subject"][0][0][1])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    named = f"[{host}]" if ":" in host else host
    seen.url = f"{'https' if tls else 'http'}://{named}:{port}"
    async with server:
        yield seen


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificate and key, each signed by itself, of a server on 127.0.0.1 and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("server", "client"):
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        whom = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(
            [OPENSSL or "openssl", "req", "-x509", *curve, *whom, *files], check=True, capture_output=True
        )
    return folder


async def _ask(url: str, access: Access) -> int:
    async with access.client(url) as client:
        return (await client.get("/health")).status_code


async def test_a_server_on_ipv6_is_reached() -> None:
    """Its address stands in brackets."""
    async with serving(host="::1") as server:
        assert await _ask(server.url, NOTHING_SPECIAL) == httpx.codes.OK
    assert server.targets == ["GET /health HTTP/1.1"]


@needs_openssl
async def test_a_client_certificate_is_shown(certificates: Path) -> None:
    """A server that admits nobody without one learns whose it is."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "client.pem")
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    trusting = Access(ca_file=certificates / "server.pem")
    known = Access(
        ca_file=certificates / "server.pem",
        client_certificate=certificates / "client.pem",
        client_key=certificates / "client.key",
    )
    async with serving(tls=tls) as server:
        assert await _ask(server.url, known) == httpx.codes.OK
        with pytest.raises(httpx.TransportError):
            await _ask(server.url, trusting)
    assert server.shown == ["client"]


@needs_openssl
def test_a_certificate_without_its_key_is_refused_at_once(certificates: Path) -> None:
    """The message names the file, before anything is sent."""
    with pytest.raises(UsageError, match=r"client\.pem: no client certificate"):
        Access(client_certificate=certificates / "client.pem").tls()


async def test_a_proxy_is_used_only_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names for everybody does not see a server's requests by itself."""
    async with serving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        far = "http://vllm.example.invalid:8000"
        with pytest.raises(httpx.ConnectError):
            await _ask(far, NOTHING_SPECIAL)
        assert await _ask(far, Access(proxies=True)) == httpx.codes.OK
        assert proxy.targets == [f"GET {far}/health HTTP/1.1"]


async def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is that loopback is never asked through one."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "inside.example")
    through = Access(proxies=True)
    assert through.proxy("http://inside.example:8000") is None
    assert through.proxy("http://outside.example:8000") == "http://127.0.0.1:9"
    assert through.proxy("http://[::1]:8000") is None
