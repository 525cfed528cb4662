"""A watch over a fake server that the test puts to sleep and wakes, on a clock of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from harness.check.result import CellResult
from harness.history.layout import CELLS_FOLDER
from harness.runs.finding import new_run_directory
from harness.runs.options import RunOptions
from harness.scenario import corpus
from harness.scenario.corpus import CORPORA_FOLDER
from harness.servers.attached import AttachedRuntime
from harness.servers.base import ServerSpec
from harness.vllm_api.connection import Connection, connect
from harness.watch.canaries import Canaries
from harness.watch.guard import Guard
from harness.watch.noticing import Happening
from harness.watch.options import WatchOptions
from harness.watch.record import EarlierBaseline, begin
from harness.watch.status import Status
from tests.drive.conftest import write_corpus
from tests.fake_vllm.engine import Engine
from tests.fake_vllm.in_process import InProcessRuntime, InProcessServer
from tests.virtual_time import VirtualTimeLoop

COMMAND = ("sleepwake", "watch")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """To wait takes no time."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@dataclass(kw_only=True, eq=False)
class Watched:
    """A server, and the watch over it."""

    server: InProcessServer
    connection: Connection
    guard: Guard
    status: Status
    directory: Path
    said: list[str]
    judged: list[tuple[Happening, CellResult]] = field(default_factory=list)
    result: CellResult | None = None

    @property
    def engine(self) -> Engine:
        """What the fake computes with."""
        return self.server._engine

    @property
    def cells(self) -> list[str]:
        """The folders of its checks."""
        return sorted(path.name for path in (self.directory / CELLS_FOLDER).glob("*"))

    async def post(self, path: str, **params: str) -> None:
        """Do something to the server, as whoever drives it does."""
        answer = await self.connection.http.post(path, params=params)
        assert answer.is_success, answer.text

    async def cycle(self, *, level: int = 1) -> None:
        """Sleep and wake, once."""
        await self.post("/sleep", level=str(level))
        await self.post("/wake_up")

    async def until(self, holds: Callable[[Status], bool]) -> None:
        """Wait until it does; an hour of the test's own clock is for ever."""
        with anyio.fail_after(3600):
            while not holds(self.status):  # noqa: ASYNC110 - on a clock of its own
                await anyio.sleep(0.3)

    async def until_judged(self) -> None:
        """Wait until all that happened has been noticed and judged."""
        await anyio.sleep(3)
        await self.until(lambda status: status.has_baseline and not status.pending)


@dataclass(frozen=True, kw_only=True)
class Watches:
    """Starts fakes, and watches over them."""

    runtime: InProcessRuntime
    out: Path
    model: Path

    @asynccontextmanager
    async def serving(self, *flags: str) -> AsyncIterator[InProcessServer]:
        """A server that somebody else runs."""
        spec = ServerSpec(
            run_id="theirs",
            cell="theirs",
            model=str(self.model),
            served_model_name="toy-model",
            args=flags,
            log_path=self.out / "server.log",
            boot_deadline_s=60,
        )
        async with self.runtime.start(spec) as server:
            assert isinstance(server, InProcessServer)
            yield server

    @asynccontextmanager
    async def over(
        self, server: InProcessServer, *, earlier: EarlierBaseline | None = None, **options: object
    ) -> AsyncIterator[Watched]:
        """A watch with a baseline, until the block is left."""
        asked = WatchOptions(
            **{"endpoint": server.base_url, "prompts": 3, "max_tokens": 6, **options}  # type: ignore[arg-type]
        )
        directory = new_run_directory(self.out)
        record = begin(directory, RunOptions(endpoint=server.base_url), keep=asked.keep, command=COMMAND)
        said: list[str] = []
        asks = Canaries(count=asked.prompts, max_tokens=asked.max_tokens)
        job = asks.job("watch", run_id=directory.name, directory=directory)
        runtime = AttachedRuntime(endpoint=server.base_url)
        async with connect(server.base_url) as connection, runtime.start(job.spec) as attached:
            guard = Guard(
                options=asked,
                record=record,
                canaries=asks,
                server=attached,
                connection=connection,
                status=Status(),
                tell=said.append,
            )
            watched = Watched(
                server=server,
                connection=connection,
                guard=guard,
                status=guard.status,
                directory=directory,
                said=said,
            )
            guard.judged = lambda result, happened: watched.judged.append((happened, result))

            async def watch() -> None:
                watched.result = await guard.watch(earlier=earlier)

            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await watched.until(lambda status: status.has_baseline)
                yield watched
                group.cancel_scope.cancel()


@pytest.fixture
def short_canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of the fake's tokens each: a paragraph takes it five times as long."""
    write_corpus(tmp_path / CORPORA_FOLDER / "words.yaml")
    monkeypatch.setattr(corpus, "CANARIES", "words")
    monkeypatch.setattr(corpus, "shipped_scenarios", lambda: tmp_path)


@pytest.fixture
def watches(
    tmp_path: Path,
    toy_model_folder: Path,
    in_process: InProcessRuntime,
    short_canaries: None,  # noqa: ARG001 - what is asked
) -> Watches:
    """Watches with folders of their own."""
    return Watches(runtime=in_process, out=tmp_path / "reports", model=toy_model_folder)
