"""The public package: few names, a cheap import, and always its own harness."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.errors import ExitCode
from tests.fake_vllm.behaviours import Fault, Misbehaviour
from tests.fake_vllm.threads import Served

ROOT = Path(__file__).parents[2]

NAMES = [
    *(
        "AsyncGuard",
        "Bound",
        "Cause",
        "CellResult",
        "Finding",
        "Guard",
        "GuardError",
        "GuardVerdict",
        "GuardWitness",
    ),
    *("InfrastructureError", "JudgedRun", "NotCleanError", "RunResult", "SleepwakeError", "Strength"),
    *("UsageError", "Verdict", "Witness", "__version__", "assert_clean", "async_guard", "check", "guard"),
    "run",
]


def python(*arguments: str, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in ``cwd`` with this tree on its path, after the folders in ``path``."""
    source = os.pathsep.join(filter(None, (path, str(ROOT), str(ROOT / "harness" / "public"))))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPWAKE_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def somebody(tmp_path: Path) -> Path:
    """A project with a package of its own that is called harness."""
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("OWN = True\n")
    return tmp_path


def test_the_public_names_are_these(tmp_path: Path) -> None:
    """Adding or losing one is a decision: others build on them.  Each can be imported."""
    program = (
        "from sleepwake import *; run, check, Verdict;"
        "import sleepwake; print(sorted(n for n in dir(sleepwake) if getattr(sleepwake, n) is not None))"
    )
    done = python("-c", program, cwd=tmp_path)
    assert done.stdout.strip() == str(NAMES), done.stderr


def test_importing_it_is_cheap(tmp_path: Path) -> None:
    """Two small modules, and nothing that they would need later."""
    program = (
        "import sys; before = set(sys.modules); import sleepwake; print(sorted(set(sys.modules) - before))"
    )
    done = python("-c", program, cwd=tmp_path)
    assert {"sleepwake", "sleepwake._own"} <= set(eval(done.stdout)), done.stderr  # noqa: S307 - a list of ours
    assert not {"harness", "pydantic", "numpy", "rich"} & set(eval(done.stdout))  # noqa: S307 - a list of ours


@pytest.mark.parametrize("on_the_path", [False, True])
def test_a_folder_called_harness_does_not_take_its_place(somebody: Path, *, on_the_path: bool) -> None:
    """In the current directory and on ``PYTHONPATH`` lie other people's folders of that name."""
    path = str(somebody) if on_the_path else ""
    done = python("-m", "sleepwake", "--version", cwd=somebody, path=path)
    assert (done.returncode, done.stdout) == (ExitCode.CLEAN, f"{harness.__version__}\n"), done.stderr


def test_another_harness_that_is_in_use_is_named(somebody: Path) -> None:
    """Two packages of one name cannot be used in one process: said in words, with what to do."""
    done = python("-c", "import harness, sleepwake; sleepwake.run", cwd=somebody)
    assert f"another package called `harness` is in use in this process ({somebody}" in done.stderr
    assert "python -m sleepwake" in done.stderr


def test_vllm_gets_nothing_where_nothing_was_asked_for(somebody: Path) -> None:
    """In every process of every vLLM on the machine: no module of ours is left behind, no name is taken."""
    program = (
        "import os, sys; os.environ['SLEEPWAKE_GUARD'] = 'off';"
        "from sleepwake import engine_plugin; engine_plugin.load();"
        "print(engine_plugin.platform(), 'harness' in sys.modules)"
    )
    assert python("-c", program, cwd=somebody).stdout == "None False\n"


@pytest.mark.cell
def test_a_run_comes_back_as_objects(here: Path, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads verdict and cause without parsing anything, and judges again; nothing is printed."""
    from harness import api
    from harness.check.result import Cause, Verdict

    url = served.start(Misbehaviour({}, frozenset({Fault.KEEP_PREFIX_CACHE})))
    judged = api.run("small", endpoint=url)
    assert (judged.result.verdict, judged.result.cells[0].cause) == (
        Verdict.CORRUPT,
        Cause.STALE_PREFIX_CACHE,
    )
    assert (judged.directory / "verdict.json").is_file()
    assert judged.directory.parent.resolve() == (here / "reports").resolve()
    assert api.check(judged.directory).result == judged.result
    assert capsys.readouterr() == ("", "")


@pytest.mark.cell
def test_a_quiet_run_prints_nothing(here: Path, served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """What a program calls writes to nobody's terminal unless told to."""
    from harness import api

    api.run("small", endpoint=served.start(), out=here / "elsewhere")
    assert capsys.readouterr() == ("", "")
    assert (here / "elsewhere").is_dir()
