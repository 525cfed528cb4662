"""A small scenario on the fake server, run the way a real one is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import indent

import pytest

from harness.drive.cell import run_cell
from harness.drive.job import CellJob
from harness.history.events import Event
from harness.history.recording import Recording, load_recording
from harness.models.model import model_in_folder
from harness.scenario.cells import Cell, load_cells
from harness.servers.base import Runtime
from harness.servers.process.runtime import ProcessRuntime
from tests.fake_vllm.in_process import InProcessRuntime
from tests.virtual_time import VirtualTimeLoop

SCENARIOS = Path(__file__).parents[2] / "scenarios"

SCRIPT = """\
name: small
why: because
arms:
  on: {args: [--enable-prefix-caching]}
  off: {args: [--no-enable-prefix-caching]}
prompts: {corpus: words, count: 4, held_out: 1}
sampling: {max_tokens: 24}
deadlines: {boot: 60, answer: 60, transition: 60}
MORE
script:
  - probe: baseline
  - null_transition: {}
  - repeat: 2
    steps:
      - sleep: {level: LEVEL}
      - wake_up: {}
      - probe: after-wake
"""


WORDS = [
    "river",
    "city",
    "music",
    "water",
    "land",
    "home",
    "light",
    "night",
    "day",
    "sea",
    "mountain",
    "great",
    "small",
    "high",
    "road",
    "story",
]


@cache
def shipped_cells() -> tuple[Cell, ...]:
    """Every cell of every shipped scenario."""
    return tuple(load_cells([SCENARIOS]))


_RAN: dict[tuple[object, ...], Recording] = {}


def write_corpus(path: Path) -> None:
    """Prompts that are two blocks long in the fake's tokens: a paragraph takes it five times as long."""
    path.parent.mkdir(exist_ok=True)
    texts = (" ".join(WORDS[number:] + WORDS[: 2 * number] + WORDS) for number in range(5))
    path.write_text("".join(f"- {{id: p{number}, text: {text}}}\n" for number, text in enumerate(texts)))


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Runs one cell of the small scenario and gives back its recording."""

    folder: Path
    model: Path
    runtime: Runtime

    def cell(self, arm: str = "on", *, level: int = 1, more: str = "", script: str = "") -> Cell:
        """One cell of the small scenario; ``more`` is YAML for keys of its own, ``script`` for its steps."""
        text = SCRIPT.replace("LEVEL", str(level)).replace("MORE", more)
        if script:
            text = f"{text.partition('script:')[0]}script:\n{indent(script, '  ')}\n"
        return self._cell(text, arm)

    def cell_of(self, script: str) -> Cell:
        """One cell whose script is this YAML, every step with two spaces before it."""
        head, begin, _ = SCRIPT.partition("script:\n")
        return self._cell(head.replace("MORE", "") + begin + script, "on")

    def _cell(self, text: str, arm: str) -> Cell:
        path = self.folder / "small.yaml"
        path.write_text(text, encoding="utf-8")
        write_corpus(self.folder / "corpora" / "words.yaml")
        return next(cell for cell in load_cells([path]) if cell.arm_name == arm)

    def job(self, cell: Cell, *, fault: str | None = None, env: Mapping[str, str] | None = None) -> CellJob:
        """What the driver is told; ``env`` reaches the server as the arm's."""
        arm = cell.arm.model_copy(update={"env": dict(env or {})})
        return CellJob(
            cell=Cell(**{**vars(cell), "arm": arm}),
            run_id="run",
            directory=self.folder / "out",
            model=model_in_folder(self.model, dtype="float32"),
            fault=fault,
        )

    async def run(
        self,
        arm: str = "on",
        *,
        level: int = 1,
        fault: str | None = None,
        misbehave: str = "",
        more: str = "",
        script: str = "",
        watcher: Callable[[Event], None] = lambda _: None,
    ) -> Recording:
        """Run one cell and read its history back."""
        job = self.job(
            self.cell(arm, level=level, more=more, script=script), fault=fault, env={"FAKE_VLLM": misbehave}
        )
        await run_cell(job, self.runtime, watcher=watcher)
        return load_recording(job.directory)

    async def ran(
        self,
        arm: str = "on",
        *,
        level: int = 1,
        fault: str | None = None,
        misbehave: str = "",
        more: str = "",
    ) -> Recording:
        """What such a cell recorded; for tests that only read it, which share one run."""
        cell = (arm, level, fault, misbehave, more)
        if cell not in _RAN:
            _RAN[cell] = await self.run(arm, level=level, fault=fault, misbehave=misbehave, more=more)
        return _RAN[cell]

    async def run_script(self, script: str, *, misbehave: str = "") -> Recording:
        """Run one cell with a script of its own and read its history back."""
        job = self.job(self.cell_of(script), env={"FAKE_VLLM": misbehave})
        await run_cell(job, self.runtime, watcher=lambda _: None)
        return load_recording(job.directory)


def fake_processes(engine_command: tuple[str, ...], folder: Path) -> ProcessRuntime:
    """The process runtime, with the fake as its engine."""
    return ProcessRuntime(
        engine_command=engine_command, engine="cpu", cache=folder / "cache", stop_grace_s=2.0
    )


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Cells run on a clock of their own: to wait takes no time, and a busy machine changes nothing.

    A test whose servers are processes says ``@pytest.mark.parametrize("anyio_backend", ["asyncio"])``.
    """
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def driver(tmp_path: Path, toy_model_folder: Path, in_process: InProcessRuntime) -> Driver:
    """A driver with folders of its own; its servers are in this process."""
    folder = tmp_path / "driver"
    folder.mkdir()
    return Driver(folder=folder, model=toy_model_folder, runtime=in_process)


@pytest.fixture
def process_driver(tmp_path: Path, toy_model_folder: Path, fake_engine_command: tuple[str, ...]) -> Driver:
    """A driver with folders of its own; its servers are processes."""
    folder = tmp_path / "driver"
    folder.mkdir()
    return Driver(folder=folder, model=toy_model_folder, runtime=fake_processes(fake_engine_command, folder))
