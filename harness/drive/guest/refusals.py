"""Says in words why a server, or what stands before it, does not answer as vLLM would."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from harness.errors import RuntimeUnavailableError
from harness.vllm_api.calls import CallError, CallResult

NOT_VLLM = "see whether --endpoint is the address of vLLM itself, path included"
_START = "start it with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode, or correct --endpoint"
_TLS = ("SSL", "certificate", "TLS")
_LEAST_SERVER_ERROR = 500


class Refusal(NamedTuple):
    """What is wrong, and what to do."""

    cause: str
    remedy: str


_OF_STATUS = {
    HTTPStatus.UNAUTHORIZED: Refusal("it wants a key", "set SLEEPWAKE_API_KEY, or give --header"),
    HTTPStatus.FORBIDDEN: Refusal("the key does not allow this", "ask whoever runs it for one that does"),
    HTTPStatus.NOT_FOUND: Refusal("there is nothing at this address", NOT_VLLM),
    HTTPStatus.TOO_MANY_REQUESTS: Refusal(
        "it allows no more requests now", "raise its limit, or give an address behind it"
    ),
}


def require_answer(result: CallResult, endpoint: str) -> None:
    """Return when the call was answered as vLLM answers it.

    Raises:
        RuntimeUnavailableError: it was not; says why in words.
    """
    if (refusal := refusal_of(result)) is not None:
        raise RuntimeUnavailableError(f"{endpoint}{result.path}: {refusal.cause}", remedy=refusal.remedy)


def refusal_of(result: CallResult) -> Refusal | None:
    """Why the call has no answer of vLLM's; None where it has one."""
    if result.error is not None:
        return _of_error(result.error)
    if isinstance(result.body, str) and result.body.lstrip().startswith("<"):
        return Refusal("a web page (HTML) comes back instead of an answer of vLLM's", NOT_VLLM)
    return None


def is_about_tls(error: CallError) -> bool:
    """Whether the connection failed because one side does not trust the other."""
    return error.status is None and any(word in error.message for word in _TLS)


def _of_error(error: CallError) -> Refusal:
    if error.kind == "timeout":
        return Refusal(f"{error.message} in full", _START)
    if error.status is None:
        if is_about_tls(error):
            return Refusal(
                f"no secure connection: {error.message}",
                "name the certificates to trust with --ca-file, or correct --endpoint",
            )
        return Refusal(f"does not answer ({error.message})", _START)
    status = HTTPStatus(error.status) if error.status in set(HTTPStatus) else None
    if status in _OF_STATUS:
        known = _OF_STATUS[status]
        return Refusal(f"answers {error.status}: {known.cause}", known.remedy)
    if error.message.startswith("redirects to "):
        return Refusal(
            f"{error.message}, which is not followed: a key would go there too", "give that address"
        )
    broken = "it is broken, or not ready" if error.status >= _LEAST_SERVER_ERROR else error.message
    return Refusal(f"answers {error.status}: {broken}", NOT_VLLM)
