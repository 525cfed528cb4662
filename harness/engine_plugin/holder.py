"""A program that holds an engine as an RL framework does, and lets the harness ask it.

It takes the words of vLLM's own server, and ``--hold LLM`` or ``--hold AsyncLLM``.  The engine is built from
them by its own class, and every call is one of that class's methods; vLLM's own front end carries what is
asked and answered over loopback.  Of an ``LLM`` only what it has is offered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from harness.engine_plugin.held_llm import HeldLLM

if TYPE_CHECKING:
    import argparse

ONLY_ASYNCHRONOUS = frozenset({"/pause", "/resume", "/is_paused", "/abort_requests"})
"""What an ``LLM`` has no method for."""


def main() -> None:
    """Hold an engine until a signal comes."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_env_setup()  # type: ignore[no-untyped-call]  # vLLM's
    parser = make_arg_parser(FlexibleArgumentParser())  # type: ignore[no-untyped-call]  # as well
    parser.add_argument(  # type: ignore[no-untyped-call]  # as well
        "--hold", choices=("LLM", "AsyncLLM"), default="LLM"
    )
    options = parser.parse_args()
    validate_parsed_serve_args(options)
    asyncio.run(_serve(options))


async def _serve(options: argparse.Namespace) -> None:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.launcher import serve_http, setup_server

    _, listening = setup_server(options, reuse_port=False)
    engine = _held(options)
    tasks = await engine.get_supported_tasks()
    app = build_app(options, tasks, engine.model_config)
    if isinstance(engine, HeldLLM):
        offered = [each for each in app.routes if getattr(each, "path", None) not in ONLY_ASYNCHRONOUS]
        app.router.routes[:] = offered
    await init_app_state(engine, app.state, options, tasks)
    try:
        ended = await serve_http(
            app,
            sock=listening,
            host=options.host,
            port=options.port,
            log_level=options.uvicorn_log_level,
        )
        await ended
    finally:
        engine.shutdown()
        listening.close()


def _held(options: argparse.Namespace) -> Any:
    if options.hold == "LLM":
        from vllm import LLM, EngineArgs

        arguments = EngineArgs.from_cli_args(options)
        return HeldLLM(lambda: LLM.from_engine_args(arguments))
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(AsyncEngineArgs.from_cli_args(options))
