"""The fake server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.fake_vllm import refusals
from tests.fake_vllm.behaviours import Behaviour
from tests.fake_vllm.development_routes import DevelopmentRoutes
from tests.fake_vllm.engine import Engine
from tests.fake_vllm.openai_routes import OpenAiRoutes
from tests.fake_vllm.options import Options
from tests.fake_vllm.token_routes import TokenRoutes


def create_app(options: Options, engine: Engine | None = None) -> Starlette:
    """Build a server with an engine, by default of its own, which runs as long as the application."""
    engine = engine or Engine(options)

    @asynccontextmanager
    async def scheduling(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(engine.scheduler.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    routes = [*OpenAiRoutes(engine, options).routes(), *TokenRoutes(engine, options).routes()]
    if options.dev_mode:
        routes += DevelopmentRoutes(engine, options).routes()
    guards = [Middleware(_Guard)] if Behaviour.WANTS_KEY in options.misbehaviour else []
    app = Starlette(routes=routes, lifespan=scheduling, middleware=guards)
    refusals.install(app)
    return app


class _Guard:
    """Lets nobody without a key ask below ``/v1``, and everybody ask for the rest, as vLLM's own does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith("/v1")
        if guarded and "authorization" not in Headers(scope=scope):
            answer = JSONResponse({"error": "Unauthorized"}, status_code=HTTPStatus.UNAUTHORIZED)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)
