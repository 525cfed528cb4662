"""What a server says of itself once it is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
from pydantic import JsonValue

from harness.drive.session import OBSERVATION_DEADLINE_S
from harness.errors import ServerError
from harness.history.events import ServerReady
from harness.servers.base import Server, ServerFacts
from harness.vllm_api import lifecycle
from harness.vllm_api.calls import CallResult
from harness.vllm_api.connection import Connection

SERVER_INFO_DEADLINE_S = 60.0
"""/server_info collects the environment by running other programs: seconds, the first time."""


async def introduced(
    server: Server, connection: Connection, *, now: Callable[[], float], boot_seconds: float
) -> ServerReady:
    """Ask the server what it is; ``now`` is the cell's clock."""
    info = await lifecycle.server_info(connection.http, deadline_s=SERVER_INFO_DEADLINE_S)
    version = await lifecycle.version(connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    release = version.field("version")
    facts = server.facts
    return ServerReady(
        t=now(),
        runtime=facts.runtime,
        command=_command(facts),
        vllm_version=release if isinstance(release, str) else None,
        image=facts.image,
        image_digest=facts.image_digest,
        boot_seconds=boot_seconds,
        emulated=facts.emulated,
        configuration=_part(info, "vllm_config"),
        environment=_part(info, "system_env"),
        shared_with=facts.shared_with,
    )


def _command(facts: ServerFacts) -> str:
    command = facts.command or ""
    return f"{command}  # shared with {', '.join(facts.shared_with)}" if facts.shared_with else command


async def served_model(connection: Connection) -> str:
    """The name an attached server gives its model."""
    names = await served_names(connection.http, deadline_s=OBSERVATION_DEADLINE_S)
    if not names:
        raise ServerError("the server lists no model at /v1/models", remedy="name it with --model")
    return names[0]


async def served_names(http: httpx.AsyncClient, *, deadline_s: float) -> list[str]:
    """The names under which something is served, in the server's order."""
    return lifecycle.names_in(await lifecycle.models(http, deadline_s=deadline_s))


def _part(info: CallResult, name: str) -> dict[str, JsonValue]:
    """A part of what the server says of itself; empty where the version cannot say it as JSON."""
    part = info.field(name)
    return part if isinstance(part, dict) else {}


def caches_prompts(ready: ServerReady) -> bool:
    """Whether the engine may keep what it computed of a prompt, in its own memory or by a connector."""
    configuration = configuration_of(ready)
    is_on = told(configuration, "cache_config", "enable_prefix_caching") is not False
    return is_on or bool(configuration.get("kv_transfer_config"))


def configuration_of(ready: ServerReady) -> Mapping[str, JsonValue]:
    """The engine's own configuration; empty where the version cannot say it as JSON."""
    return ready.configuration if isinstance(ready.configuration, dict) else {}


def told(configuration: Mapping[str, JsonValue], part: str, name: str) -> JsonValue:
    """One value of it, such as ``cache_config``'s ``block_size``; None if it is not told."""
    values = configuration.get(part)
    return values.get(name) if isinstance(values, dict) else None
