"""What the tests of the runtimes share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from harness.servers.base import ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from tests.servers import toy_engine

TOY_ENGINE = (sys.executable, toy_engine.__file__)

SpecFactory = Callable[..., ServerSpec]


@pytest.fixture
def make_spec(tmp_path: Path) -> SpecFactory:
    """Return a function that makes a spec out of the toy engine's flags."""

    def make(
        *args: str, boot_deadline_s: float = 30, env: dict[str, str] | None = None, model: str = "toy/model"
    ) -> ServerSpec:
        return ServerSpec(
            run_id="run-1",
            cell="scenario/arm",
            model=model,
            served_model_name="toy",
            args=args,
            env=env or {},
            log_path=tmp_path / "cell" / "server.log",
            boot_deadline_s=boot_deadline_s,
        )

    return make


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return the folder where the runtime remembers what it started."""
    return tmp_path / "cache"


@pytest.fixture
def runtime(cache: Path) -> ProcessRuntime:
    """Return a process runtime whose engine is the toy engine."""
    return ProcessRuntime(engine_command=TOY_ENGINE, engine="cpu", cache=cache, stop_grace_s=0.5)


@pytest.fixture
def stranger_port() -> Iterator[int]:
    """Return a port on which a program of somebody else is healthy."""
    server = toy_engine.serve("127.0.0.1", 0, healthy=True, pids={})
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()
