"""The fake as a process, started as the harness starts vLLM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from harness.errors import ServerBootError
from harness.servers.base import Server, ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from harness.vllm_api import lifecycle
from harness.vllm_api.connection import connect
from harness.vllm_api.generation import GenerationRequest, generate

pytestmark = [pytest.mark.anyio, pytest.mark.cell]  # each starts a process

_DEADLINE_S = 30.0

SpecFactory = Callable[..., ServerSpec]


@pytest.fixture
def runtime(fake_engine_command: tuple[str, ...], tmp_path: Path) -> ProcessRuntime:
    """The process runtime with the fake for an engine."""
    return ProcessRuntime(engine_command=fake_engine_command, engine="cpu", cache=tmp_path)


@pytest.fixture
def make_spec(tmp_path: Path, toy_model_folder: Path) -> SpecFactory:
    """Return a function that makes the spec of a fake with this environment."""

    def make(**env: str) -> ServerSpec:
        return ServerSpec(
            run_id="run",
            cell="cell",
            model=str(toy_model_folder),
            served_model_name="toy",
            args=("--no-enable-prefix-caching",),
            env=env,
            log_path=tmp_path / "server.log",
            boot_deadline_s=_DEADLINE_S,
        )

    return make


REQUEST = GenerationRequest(prompt_token_ids=(5, 6, 7), max_tokens=4, model="toy", deadline_s=_DEADLINE_S)


async def test_it_takes_the_flags_and_the_environment_of_vllm(
    runtime: ProcessRuntime, make_spec: SpecFactory
) -> None:
    """Started with all that the runtime adds, it answers under the served name and can sleep."""
    async with runtime.start(make_spec()) as server, connect(server.base_url) as connection:
        answer = await generate(connection.openai, REQUEST)
        slept = await lifecycle.sleep(connection.http, level=1, deadline_s=_DEADLINE_S)
        info = await lifecycle.server_info(connection.http, deadline_s=_DEADLINE_S)
    assert (answer.error, slept.ok) == (None, True)
    assert answer.cached_tokens == 0
    assert isinstance(info.body, dict)
    assert "'enable_prefix_caching': False" in str(info.body["vllm_config"])


@pytest.mark.parametrize(
    "env",
    [{"FAKE_VLLM": "die-at-boot"}, {"SLEEPWAKE_FAULT": "no-such-fault"}, {"FAKE_VLLM": "no-such-thing"}],
)
async def test_it_dies_at_boot(runtime: ProcessRuntime, make_spec: SpecFactory, env: dict[str, str]) -> None:
    """Asked to, or asked for what it does not know, it is dead before it listens."""
    with pytest.raises(ServerBootError, match="exited with code 1"):
        async with runtime.start(make_spec(**env)):
            pass


async def test_it_dies_while_answering(runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
    """The second request gets no answer, and the process is gone."""
    async with (
        runtime.start(make_spec(FAKE_VLLM="die-in-probe:2")) as server,
        connect(server.base_url) as connection,
    ):
        assert (await generate(connection.openai, REQUEST)).error is None
        answer = await generate(connection.openai, REQUEST)
        assert answer.error is not None
        assert answer.error.kind == "connection"
        assert await _death(server) == "it exited with code 1"


async def test_it_dies_asleep(runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
    """Falling asleep succeeds; the process is gone afterwards."""
    async with (
        runtime.start(make_spec(FAKE_VLLM="die-asleep")) as server,
        connect(server.base_url) as connection,
    ):
        assert (await lifecycle.sleep(connection.http, level=1, deadline_s=_DEADLINE_S)).ok
        assert await _death(server) == "it exited with code 1"
        assert (await lifecycle.health(connection.http, deadline_s=_DEADLINE_S)).error is not None


async def test_it_stops_although_a_request_hangs(runtime: ProcessRuntime, make_spec: SpecFactory) -> None:
    """A request nobody answers does not keep the process alive."""
    async with (
        runtime.start(make_spec(FAKE_VLLM="hang")) as server,
        connect(server.base_url) as connection,
        anyio.create_task_group() as group,
    ):
        group.start_soon(generate, connection.openai, REQUEST)
        assert (await lifecycle.health(connection.http, deadline_s=_DEADLINE_S)).ok
        group.cancel_scope.cancel()
    assert await server.death() is not None


async def _death(server: Server) -> str:
    with anyio.fail_after(_DEADLINE_S):
        while (cause := await server.death()) is None:
            await anyio.lowlevel.checkpoint()
        return cause
