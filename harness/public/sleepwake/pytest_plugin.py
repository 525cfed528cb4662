"""Collects scenarios as test items, one a cell, where a project says so; otherwise it says and does nothing.

.. code-block:: ini

    [pytest]
    sleepwake_scenarios = tests/sleep

``pytest --sleepwake`` runs them, and so does ``-m sleepwake`` (the default ones) or ``-m sleepwake_optional``
(the others); a plain ``pytest`` shows them as skipped.  ``--sleepwake=PATH`` names further files or folders.
All cells of a session are one run, in a process of its own, with one run directory and one report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sleepwake._guard import Guard
    from sleepwake._session import Cell, RunningServer, Session

_OPTIONS = {
    "fault": "plant a corruption on purpose",
    "runtime": "auto, docker, process, inprocess or attached",
    "vllm": "the vLLM release to test",
    "image": "the container image to test",
    "endpoint": "URL of a server that is already running",
    "model": "a Hugging Face id or a model folder",
    "out": "the folder that holds the run directories",
}
_SUFFIXES = (".yaml", ".yml")
_MARKERS = (
    "sleepwake: a default scenario on a real vLLM engine; takes minutes",
    "sleepwake_optional: a scenario outside the default set",
)


@pytest.fixture
def sleepwake_guard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    """Makes guards of engines in this process (:func:`sleepwake.guard`), which end with the test.

    Their recordings go into ``--sleepwake-out``, or else into the test's own folder.
    """
    from sleepwake import guard

    out = request.config.getoption("--sleepwake-out") or tmp_path
    with ExitStack() as guards:
        yield lambda llm, **settings: guards.enter_context(guard(llm, **{"out": out, **settings}))


@pytest.fixture(scope="session")
def sleepwake_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A vLLM server for the tests of this session, with its sleep mode and its development endpoints.

    It is started as ``--sleepwake-model``, ``--sleepwake-vllm-arg`` and their like say, and ends with the
    session; with ``--sleepwake-endpoint`` it is the one there. ``url`` and ``model`` say how it is asked.
    """
    from sleepwake._session import serving

    out = request.config.getoption("--sleepwake-out") or str(tmp_path_factory.mktemp("sleepwake-server"))
    with serving({**_given(request.config), "out": out}) as server:
        yield server


def _given(config: pytest.Config) -> dict[str, object]:
    """The options that a call of pytest gives."""
    options = {name: config.getoption(f"--sleepwake-{name}") for name in _OPTIONS}
    flags = config.getoption("--sleepwake-vllm-arg")
    given: dict[str, object] = {name: value for name, value in options.items() if value is not None}
    return {**given, **({"vllm_args": flags} if flags else {})}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names scenarios, and the options that ask for a run and narrow it."""
    parser.addini("sleepwake_scenarios", "files or folders of sleepwake scenarios", type="paths", default=[])
    group = parser.getgroup("sleepwake", "vLLM sleep/wake scenarios")
    group.addoption(
        "--sleepwake",
        nargs="?",
        const="",
        metavar="PATH",
        help="run the scenarios that the ini setting sleepwake_scenarios names, and those in PATH",
    )
    for name, text in _OPTIONS.items():
        group.addoption(f"--sleepwake-{name}", default=None, help=text)
    group.addoption("--sleepwake-vllm-arg", action="append", default=[], help="one more vLLM flag")


def pytest_configure(config: pytest.Config) -> None:
    """Take part in this session where it has scenarios.

    Raises:
        pytest.UsageError: scenarios are asked for and none are named.
    """
    asked = config.getoption("--sleepwake")
    paths = [Path(path).resolve() for path in config.getini("sleepwake_scenarios")]
    if asked:
        paths.append((config.invocation_params.dir / asked).resolve())
    elif asked is not None and not paths:
        raise pytest.UsageError(
            "--sleepwake: no scenarios are named; give it a path, or set sleepwake_scenarios = PATHS"
        )
    if paths:
        for marker in _MARKERS:
            config.addinivalue_line("markers", marker)
        config.pluginmanager.register(_Scenarios(config, paths), "sleepwake-scenarios")
        if asked is not None:
            _visit(config, paths)


def _visit(config: pytest.Config, paths: list[Path]) -> None:
    """Have pytest look at scenarios that lie outside of what it would look at."""
    visited = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    for path in paths:
        if not any(path.is_relative_to(each) or each.is_relative_to(path) for each in visited):
            config.args.append(str(path))


def _scenario_files(path: Path) -> list[Path]:
    """What is collected of a path: a file, or what lies directly in a folder."""
    return [
        each for each in (sorted(path.iterdir()) if path.is_dir() else [path]) if each.suffix in _SUFFIXES
    ]


class _Scenarios:
    """The part of the plugin that is only there in a project with scenarios."""

    def __init__(self, config: pytest.Config, paths: list[Path]) -> None:
        self._config = config
        self._paths = paths
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The process that knows scenarios and runs them, once it is needed."""
        if self._session is None:
            from sleepwake._session import Session

            files = [file for path in self._paths for file in _scenario_files(path)]
            self._session = Session(_given(self._config), files)
        return self._session

    @property
    def asked_for(self) -> bool:
        """Whether this call of pytest asks for a run."""
        by_marker = "sleepwake" in (self._config.getoption("-m") or "")
        return by_marker or self._config.getoption("--sleepwake") is not None

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Collect a scenario file that the project has named, or that lies directly in a named folder."""
        if file_path.suffix in _SUFFIXES and {file_path, file_path.parent} & set(self._paths):
            return ScenarioFile.from_parent(parent, path=file_path, scenarios=self)
        return None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn which cells are left to run."""
        cells = [item.cell for item in session.items if isinstance(item, CellItem)]
        if cells and self.asked_for:
            self.session.plan(cells)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        if self._session is not None and self._session.report is not None:
            terminalreporter.write_line(f"sleepwake report: {self._session.report}")


class ScenarioFile(pytest.File):
    """One scenario file."""

    def __init__(self, *, scenarios: _Scenarios, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]  # pytest's own construction protocol
        self._scenarios = scenarios

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item a cell."""
        from sleepwake._session import ScenarioRefusedError

        try:
            cells = self._scenarios.session.cells_of(self.path)
        except ScenarioRefusedError as error:
            raise self.CollectError(str(error)) from error
        for cell in cells:
            item = CellItem.from_parent(self, name=cell.arm, cell=cell, scenarios=self._scenarios)
            item.add_marker("sleepwake" if cell.default else "sleepwake_optional")
            if self.config.pluginmanager.hasplugin("timeout"):
                # A cell has its own deadlines; a limit meant for unit tests would cut it short.
                item.add_marker(pytest.mark.timeout(0))
            yield item


class CellItem(pytest.Item):
    """One cell: passes when its verdict is clean."""

    def __init__(self, *, cell: Cell, scenarios: _Scenarios, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]  # pytest's own construction protocol
        self.cell = cell
        self._scenarios = scenarios

    def setup(self) -> None:
        """Skip what nobody asked for."""
        if not self._scenarios.asked_for:
            pytest.skip("runs only with --sleepwake or -m sleepwake")

    def runtest(self) -> None:
        """Wait for the cell's verdict."""
        if hasattr(self.config, "workerinput"):
            raise CellNotCleanError("cells share one machine's engines: run them without pytest-xdist's -n")
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            outcome = self._scenarios.session.outcome_of(self.cell)
        if "skipped" in outcome:
            pytest.skip(outcome["skipped"])
        if "failure" in outcome:
            raise CellNotCleanError(outcome["failure"])

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        style: object = None,  # noqa: ARG002 - pytest's own signature
    ) -> str:
        """Tell the verdict with its witness; anything else as it is."""
        if isinstance(excinfo.value, CellNotCleanError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Name the item as the harness names the cell."""
        return self.path, None, self.cell.id


class CellNotCleanError(Exception):
    """A cell whose verdict is not clean, or that has none."""
