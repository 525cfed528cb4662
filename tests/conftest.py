"""What all tests share: the asyncio backend, deterministic Hypothesis, and a fake vLLM."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from harness import installation
from harness.vllm_api.connection import Connection, connect
from tests.fake_vllm import in_process as fakes_in_process
from tests.fake_vllm.serving import serve
from tests.fake_vllm.threads import Served
from tests.small_scenario import write_scenario
from tests.toy_model import write_toy_model
from tests.trying import load_profiles
from tests.virtual_time import watch_threads

load_profiles()

# A developer's own options must not change what is tested.
for _option in ("RUNTIME", "VLLM", "IMAGE", "ENDPOINT", "MODEL", "VLLM_ARGS", "OUT"):
    os.environ.pop(f"SLEEPWAKE_{_option}", None)

FAKE_ENGINE = (sys.executable, "-m", "tests.fake_vllm")
"""Starts a fake vLLM as a process, where its path is set."""

_REPOSITORY = Path(__file__).parents[1]


LONGEST_CELL_S = 600
"""Whole cells compute for long on a busy machine; this only ends one that would never end."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: it is not searched for garbage, again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole cells the time they take, unless they say how much that is."""
    for item in items:
        if item.get_closest_marker("cell") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONGEST_CELL_S))


def pytest_configure(config: pytest.Config) -> None:
    """Let ``--collect-only`` succeed: nothing runs then, so no snapshot can be in use."""
    if config.option.collectonly:
        config.option.warn_unused_snapshots = True


@pytest.fixture
def anyio_backend() -> str:
    """The harness runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def fake() -> AsyncIterator[Connection]:
    """A healthy fake vLLM inside this process, connected; other configurations come from ``serve``."""
    async with serve() as base_url, connect(base_url) as connection:
        yield connection


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> fakes_in_process.InProcessRuntime:
    """Starts fakes in the event loop that asks them."""
    watch_threads(monkeypatch)
    runtime = fakes_in_process.InProcessRuntime()
    fakes_in_process.install(runtime, monkeypatch)
    return runtime


@pytest.fixture
def fake_engine_command(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """What starts a fake vLLM as a process; gets vLLM's flags appended, as the process runtime does."""
    monkeypatch.setenv("PYTHONPATH", str(_REPOSITORY))
    return FAKE_ENGINE


@pytest.fixture
def toy_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy model; variants of it are kept beside it."""
    monkeypatch.setenv("SLEEPWAKE_CACHE", str(tmp_path / "models-cache"))
    return write_toy_model(tmp_path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one small scenario, which is all that ships, and a bare environment."""
    settle_in(tmp_path, monkeypatch)
    return tmp_path


def settle_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in ``folder``, where one small scenario ships, in a bare environment."""
    write_scenario(folder)
    monkeypatch.setattr(installation, "working_copy", lambda: folder)
    for name in [name for name in os.environ if name.startswith("SLEEPWAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("SLEEPWAKE_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder)
    leave_undrawn(monkeypatch)


def leave_undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have empty pictures: to draw them takes longer than all the rest, and tests/report does it."""
    monkeypatch.setattr("vl_convert.vegalite_to_svg", lambda _: '<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture
def served() -> Iterator[Served]:
    """Somewhere to start fake servers that code which blocks can talk to."""
    servers = Served()
    yield servers
    servers.stop()
