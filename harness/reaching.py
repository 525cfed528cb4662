"""How a server is reached over HTTP: keys, headers, certificates, proxies, and what no answer may do.

Every call to a server is made with what is said here, so that what a user says of one server holds for each
call to it, and for no other server.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias
from urllib.request import getproxies, proxy_bypass

import httpx

from harness.errors import UsageError

RequestHook: TypeAlias = Callable[[httpx.Request], Awaitable[None]]

MOST_BYTES = 32 * 1024 * 1024
"""Of one answer's body; the largest that are asked for, log-probabilities of prompts, have a few million."""

_TOO_LARGE = f"the answer has more than {MOST_BYTES // 2**20} MiB"

PLAIN = {
    # Kept alive, it may be closed by the server just when it is used again, and nothing is retried.
    "Connection": "close",
    # A compressed body may be a thousand times as large as what was read of it.
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a server wants to be shown.  Its ``repr`` tells no secret.

    Attributes:
        headers: Are sent with every call to this server, and with none to another.
        ca_file: The certificates that are trusted; None: the system's.
        client_certificate: A file with the certificate, and perhaps the key, that we show.
        client_key: The file of its key, where that is another.
        proxies: Whether to go through the proxies that the environment names.
    """

    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    ca_file: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    proxies: bool = False

    def tls(self) -> ssl.SSLContext:
        """Which certificates are trusted, and which is shown.

        Raises:
            UsageError: a certificate cannot be read.
        """
        files = (self.ca_file, self.client_certificate, self.client_key)
        return _tls(*(file.absolute() if file else None for file in files))

    def proxy(self, base_url: str) -> str | None:
        """The proxy on the way to ``base_url``; None: there is none, as always on the way to loopback."""
        url = httpx.URL(base_url)
        if not self.proxies or url.host in {"localhost", "127.0.0.1", "::1"} or proxy_bypass(url.host):
            return None
        named = getproxies()
        return named.get(url.scheme) or named.get("all")

    def client(self, base_url: str, *hooks: RequestHook) -> httpx.AsyncClient:
        """A client for the server at ``base_url``; each of ``hooks`` is shown every request.

        It has no time limit, as the callers' deadlines rule, and follows no redirect, so that nothing that is
        shown to this server is shown to another.

        Raises:
            UsageError: a certificate cannot be read.
        """
        transport = httpx.AsyncHTTPTransport(
            verify=self.tls(),
            limits=httpx.Limits(max_connections=None),
            proxy=self.proxy(base_url),
            trust_env=False,
        )
        return httpx.AsyncClient(
            base_url=base_url,
            headers={**PLAIN, **self.headers},
            timeout=None,  # noqa: S113 - every call has its own deadline
            transport=Bounded(transport),
            trust_env=False,
            follow_redirects=False,
            event_hooks={"request": [*hooks]},
        )


NOTHING_SPECIAL = Access()
"""How servers of ours are reached: on loopback, without a key, and through no proxy."""


class Bounded(httpx.AsyncBaseTransport):
    """Ends an answer that is larger than :data:`MOST_BYTES`, or compressed although nobody asked for that."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass the request on, and watch over what comes back.

        Raises:
            RemoteProtocolError: it is compressed.
        """
        response = await self._inner.handle_async_request(request)
        if complaint := unfit_to_read(response.headers):
            await response.aclose()
            raise httpx.RemoteProtocolError(complaint)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - it comes from httpx's own
        response.stream = _BoundedStream(response.stream)
        return response

    async def aclose(self) -> None:
        """Close what is underneath."""
        await self._inner.aclose()


def unfit_to_read(headers: Mapping[str, str]) -> str | None:
    """Why the body of an answer with these headers must not be read; None where nothing is against it."""
    encoding, length = headers.get("content-encoding", "identity"), headers.get("content-length", "0")
    if encoding != "identity":
        return f"the answer is compressed ({encoding}), which was not asked for"
    return _TOO_LARGE if length.isdecimal() and int(length) > MOST_BYTES else None


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for part in self._inner:
            read += len(part)
            if read > MOST_BYTES:
                raise httpx.RemoteProtocolError(_TOO_LARGE)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


@cache
def _tls(ca_file: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes longer than most calls."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{ca_file}: no certificates: {error}", remedy="--ca-file wants a PEM file"
        ) from error
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{certificate}: no client certificate: {error}",
                remedy="--client-cert wants a PEM file, and --client-key that of its key",
            ) from error
    return context


def headers_of(words: tuple[str, ...], *, api_key: str | None) -> Mapping[str, str]:
    """What ``--header NAME=VALUE`` and a key send.

    Raises:
        UsageError: a word is none; it is not repeated, as it may hold a secret.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise UsageError("--header wants NAME=VALUE", remedy="for example --header X-Team=search")
        headers[name.strip()] = value
    for value in headers.values():
        if not (value.isascii() and value.isprintable()):
            raise UsageError(
                "a header or key holds characters that no header can",
                remedy="see whether it has a line break",
            )
    return MappingProxyType(headers)
