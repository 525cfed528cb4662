"""Collects ``scenarios/*.yaml`` as test items, one a cell, marked ``sleepwake``.

``pytest -m sleepwake`` runs the default scenarios, ``-m sleepwake_optional`` the others; a
plain ``pytest`` in this project leaves both out.  Options: ``--sleepwake-fault``, ``--sleepwake-runtime``,
``--sleepwake-vllm``, ``--sleepwake-model``.  The run directory is ``reports/<time>`` as always.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.check.result import CellResult
    from harness.scenario.cells import Cell

_OPTIONS = {
    "fault": "plant a corruption on purpose",
    "runtime": "auto, docker, process or attached",
    "vllm": "the vLLM release to test",
    "image": "the container image to test",
    "endpoint": "URL of a server that is already running",
    "model": "a Hugging Face id or a model folder",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that narrow a run."""
    group = parser.getgroup("sleepwake", "vLLM sleep/wake scenarios")
    for name, text in _OPTIONS.items():
        group.addoption(f"--sleepwake-{name}", default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "sleepwake: a default scenario on a real vLLM engine; takes minutes")
    config.addinivalue_line("markers", "sleepwake_optional: a scenario outside the default set")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect scenario files: YAML directly inside a folder called ``scenarios``."""
    if file_path.suffix in {".yaml", ".yml"} and file_path.parent.name == "scenarios":
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """One scenario file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item a cell."""
        from harness.errors import UsageError
        from harness.scenario.cells import load_cells

        try:
            cells = load_cells([self.path])
        except UsageError as error:
            raise self.CollectError(str(error)) from error
        for cell in cells:
            item = CellItem.from_parent(self, name=cell.arm_name, cell=cell)
            item.add_marker("sleepwake" if cell.scenario.default else "sleepwake_optional")
            # A cell has its own deadlines; a limit meant for unit tests would cut it short.
            item.add_marker(pytest.mark.timeout(0))
            # The verdict is about the engine: sockets that client libraries leave to the collector are not.
            item.add_marker(pytest.mark.filterwarnings("default::ResourceWarning"))
            yield item


class CellItem(pytest.Item):
    """One cell: passes when its verdict is clean."""

    def __init__(self, *, cell: Cell, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]  # pytest's own construction protocol
        self.cell = cell

    def runtest(self) -> None:
        """Run the cell and judge it."""
        from harness.check.result import Verdict

        result = self._run_cell()
        if result.verdict is not Verdict.CLEAN:
            raise CellNotCleanError(result)

    def _run_cell(self) -> CellResult:
        from rich.console import Console

        from harness.extras import require

        require("run", for_what="running scenarios")
        from harness import workflow
        from harness.report.progress import Progress
        from harness.runs.judging import judge_directory
        from harness.runs.options import RunOptions

        chosen = {name: self.config.getoption(f"--sleepwake-{name}") for name in _OPTIONS}
        options = RunOptions(**{name: value for name, value in chosen.items() if value is not None})
        choice = workflow.choose(options)
        if reason := workflow.obstacle(self.cell, choice.runtime, options):
            pytest.skip(f"{self.cell.id} {reason}")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled(), Progress(Console(highlight=False), cells=1) as progress:
            finished = workflow.run(options, [self.cell], choice, progress=progress)
        return judge_directory(finished.directory).result.cells[0]

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        style: object = None,  # noqa: ARG002 - pytest's own signature
    ) -> str:
        """Tell the verdict with its witness; anything else as it is."""
        from harness.errors import SleepwakeError

        if isinstance(excinfo.value, CellNotCleanError | SleepwakeError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the item as the harness names the cell."""
        return self.path, None, self.cell.id


class CellNotCleanError(Exception):
    """A cell whose verdict is not clean."""

    def __init__(self, result: CellResult) -> None:
        outcome = result.verdict.value if result.verdict else "error"
        lines = [f"{result.cell}: {outcome}: {result.reason}"]
        if result.cause:
            lines.append(f"cause: {result.cause.value}")
        lines += [f"- {finding.message}" for finding in result.findings[:10]]
        super().__init__("\n".join(lines))
