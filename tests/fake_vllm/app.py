"""The fake server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette

from tests.fake_vllm import refusals
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
    app = Starlette(routes=routes, lifespan=scheduling)
    refusals.install(app)
    return app
