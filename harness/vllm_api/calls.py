"""One HTTP call to a server, with its deadline and its outcome as values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, TypeAlias

import anyio
import httpx
from pydantic import JsonValue

CallErrorKind: TypeAlias = Literal["timeout", "abandoned", "connection", "http", "protocol"]
Params: TypeAlias = tuple[tuple[str, str], ...]

MESSAGE_LIMIT = 500
TEXT_LIMIT = 4000
"""How much of a body that is not JSON is kept, in characters."""

_SENT = "send_request_body.complete"
"""How the event ends with which httpx says that a whole request has been sent."""

_when_sent: ContextVar[Callable[[], None] | None] = ContextVar("when_sent", default=None)

_NO_SUCH_ROUTE = "Not Found"
"""Starlette's message for a path it does not know; vLLM's own 404s say what was not found."""


@dataclass(frozen=True, kw_only=True)
class CallError:
    """Why a call did not give what was asked for.

    ``timeout``: no complete answer before the deadline.  ``abandoned``: none before the client gave it up,
    as it was asked to.  ``connection``: refused, reset or
    closed half-way.  ``http``: an answer with another status than 2xx.  ``protocol``: a 200
    whose body is not what the API promises.
    """

    kind: CallErrorKind
    message: str
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """One call to a lifecycle endpoint and what came back.

    ``body`` is the parsed JSON, the (shortened) text where it is not JSON, or ``None`` where
    there was none.  ``seconds`` runs from sending to the complete answer or the failure.
    """

    method: str
    path: str
    params: Params
    payload: JsonValue
    status: int | None
    body: JsonValue
    seconds: float
    error: CallError | None

    @property
    def ok(self) -> bool:
        """Whether the server answered with a status of 2xx."""
        return self.error is None

    @property
    def unavailable(self) -> bool:
        """Whether the server lacks this endpoint: its release, or its development mode is off."""
        if self.status == httpx.codes.METHOD_NOT_ALLOWED:
            return True
        return self.status == httpx.codes.NOT_FOUND and error_message(self.body) == _NO_SUCH_ROUTE

    def field(self, name: str) -> JsonValue:
        """The named member of the answered JSON object, ``None`` where there is no such thing."""
        return self.body.get(name) if self.ok and isinstance(self.body, dict) else None


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A response (of whatever status), or why there is none, and how long that took."""

    response: httpx.Response | None
    error: CallError | None
    seconds: float


@contextmanager
def telling_when_sent(tell: Callable[[], None]) -> Iterator[None]:
    """Have ``tell`` called as soon as a request that is made within the block has been sent."""
    token = _when_sent.set(tell)
    try:
        yield
    finally:
        _when_sent.reset(token)


def _extensions() -> dict[str, object]:
    """What tells httpx to say when a request has been sent; nothing where nobody wants to know."""
    tell = _when_sent.get()
    if tell is None:
        return {}

    async def trace(event: str, _: object) -> None:
        if event.endswith(_SENT):
            tell()

    return {"trace": trace}


async def fetch(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    deadline_s: float,
    params: Sequence[tuple[str, str]] = (),
    payload: JsonValue = None,
) -> Fetched:
    """Call ``path`` and wait at most ``deadline_s`` seconds for the complete answer.

    Nothing is raised for what the server does; cancellation passes through and closes the
    connection.
    """
    started = anyio.current_time()
    response: httpx.Response | None = None
    error: CallError | None = None
    try:
        with anyio.fail_after(deadline_s):
            response = await http.request(
                method, path, params=list(params), json=payload, extensions=_extensions()
            )
    except (TimeoutError, httpx.TimeoutException):
        error = timed_out(deadline_s)
    except httpx.HTTPError as failure:
        error = CallError(kind="connection", message=shorten(f"{type(failure).__name__}: {failure}"))
    if response is not None and not response.is_success:
        message = _redirection(response) or error_message(_body(response)) or response.reason_phrase
        error = CallError(kind="http", message=message, status=response.status_code)
    return Fetched(response=response, error=error, seconds=anyio.current_time() - started)


async def call(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    *,
    deadline_s: float,
    params: Sequence[tuple[str, str]] = (),
    payload: JsonValue = None,
) -> CallResult:
    """Fetch ``path`` like :func:`fetch` and keep what was sent beside what came back."""
    fetched = await fetch(http, method, path, deadline_s=deadline_s, params=params, payload=payload)
    response = fetched.response
    return CallResult(
        method=method,
        path=path,
        params=tuple(params),
        payload=payload,
        status=response.status_code if response is not None else None,
        body=_body(response) if response is not None else None,
        seconds=fetched.seconds,
        error=fetched.error,
    )


def timed_out(deadline_s: float) -> CallError:
    """The error of a call that got no complete answer in time."""
    return CallError(kind="timeout", message=f"no answer within {deadline_s:g} s")


def malformed(error: ValueError) -> CallError:
    """The error of a 200 whose body is not what the API promises."""
    return CallError(kind="protocol", message=shorten(str(error)), status=httpx.codes.OK)


def error_message(body: object) -> str:
    """What a parsed error answer says: vLLM's ``error.message``, Starlette's ``detail``, or all of it."""
    if isinstance(body, dict):
        error = body.get("error", body)
        message = error.get("message", error.get("detail")) if isinstance(error, dict) else error
        return shorten(str(message if message is not None else body))
    return shorten(str(body)) if body else ""


def shorten(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """The text, its end cut off beyond ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _redirection(response: httpx.Response) -> str | None:
    """Where it redirects to, without a query, which may hold a secret; None where it does not."""
    if not response.has_redirect_location:
        return None
    target = response.url.join(response.headers["location"])
    return f"redirects to {target.scheme}://{target.netloc.decode().rpartition('@')[2]}{target.path}"


def _body(response: httpx.Response) -> JsonValue:
    if not response.content:
        return None
    try:
        parsed: JsonValue = response.json()
    except ValueError:
        return shorten(response.text, TEXT_LIMIT)
    return parsed
