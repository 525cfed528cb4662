"""The process runtime with a real vLLM engine."""

from pathlib import Path

import httpx
import pytest

from harness.models.model import provide_model
from harness.servers.base import ServerSpec
from harness.servers.process.runtime import ProcessRuntime

pytestmark = [pytest.mark.engine, pytest.mark.anyio, pytest.mark.timeout(300)]


def shared_memory() -> set[Path]:
    """Return the segments of shared memory on this machine."""
    return set(Path("/dev/shm").iterdir())  # noqa: S108


async def test_engine_comes_and_goes_whole(tmp_path: Path) -> None:
    """A real engine is ready, seen with all its processes, and leaves no process, memory segment or file."""
    model = provide_model(dtype="float32")
    spec = ServerSpec(
        run_id="run-1",
        cell="scenario/arm",
        model=model.location,
        served_model_name=model.served_name,
        log_path=tmp_path / "server.log",
        boot_deadline_s=240,
    )
    segments_before = shared_memory()
    runtime = ProcessRuntime(cache=tmp_path / "cache")
    async with runtime.start(spec) as server:
        async with httpx.AsyncClient(trust_env=False, base_url=server.base_url) as client:
            assert (await client.get("/is_sleeping")).json() == {"is_sleeping": False}
        memory = await server.measure_memory()
        assert "VLLM::EngineCore" in {name.rpartition(":")[0] for name in memory.per_process}
        assert (memory.resident or 0) > (model.bytes_on_disk or 0) > 0
    assert shared_memory() <= segments_before
    assert (await server.measure_memory()).per_process == {}
    assert list((tmp_path / "cache" / "servers").iterdir()) == []
