"""How the API refuses: vLLM's error bodies (vllm/entrypoints/serve/exception_handling)."""

from __future__ import annotations

from http import HTTPStatus

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.fake_vllm.engine import EngineError


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, message: str, status: HTTPStatus, *, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.response = _error(message, status, kind, param)


def bad_request(message: str, *, param: str | None = None) -> RefusedError:
    """A request that makes no sense."""
    return RefusedError(message, HTTPStatus.BAD_REQUEST, kind="BadRequestError", param=param)


def not_found(message: str, *, param: str | None = None) -> RefusedError:
    """A request about something that is not there."""
    return RefusedError(message, HTTPStatus.NOT_FOUND, kind="NotFoundError", param=param)


def forbidden(message: str) -> RefusedError:
    """A request for what is switched off."""
    return RefusedError(message, HTTPStatus.FORBIDDEN, kind="PermissionDeniedError")


def install(app: Starlette) -> None:
    """Answer exceptions as vLLM does."""
    app.add_exception_handler(RefusedError, _answer_refusal)
    app.add_exception_handler(ValidationError, _answer_invalid)
    app.add_exception_handler(EngineError, _answer_engine_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)


async def _answer_refusal(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, RefusedError)
    return refusal.response


async def _answer_invalid(_: Request, invalid: Exception) -> Response:
    assert isinstance(invalid, ValidationError)
    first = invalid.errors()[0]
    status = HTTPStatus.BAD_REQUEST
    place = "query" if invalid.title.endswith("Query") else "body"
    param = ".".join([place, *map(str, first["loc"][:1])])
    return _error(f"{invalid.error_count()} validation errors: {first['msg']}", status, status.phrase, param)


async def _answer_engine_error(_: Request, failure: Exception) -> Response:
    return _error(str(failure), HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError", None)


async def _answer_http_exception(_: Request, exception: Exception) -> Response:
    assert isinstance(exception, HTTPException)
    return JSONResponse({"detail": exception.detail}, status_code=exception.status_code)


def _error(message: str, status: HTTPStatus, kind: str, param: str | None) -> JSONResponse:
    body = {"message": message, "type": kind, "param": param, "code": status.value}
    return JSONResponse({"error": body}, status_code=status)
