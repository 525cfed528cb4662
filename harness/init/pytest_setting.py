"""The pytest setting that ``sleepwake init`` writes, or tells, where a project has settings already."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from harness.init.ci_job import asked
from harness.init.wanted import Wanted

_SETTINGS = {
    "pytest.ini": "",
    ".pytest.ini": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}
"""The files in which pytest looks for its settings, and what begins them there."""

_GUARD = '''\
"""The engine of this project sleeps and wakes up; written by `sleepwake init`.

`SLEEPWAKE_GUARD=off` turns guards off. `sleepwake_guard` comes with sleepwake's pytest plugin.
"""

import pytest

vllm = pytest.importorskip("vllm")


@pytest.fixture(scope="module")
def llm():
    # Replace this by the way in which your project makes its engine.
    return vllm.LLM(model={model!r}, enable_sleep_mode=True)


def test_the_engine_that_wakes_up_is_the_one_that_fell_asleep(llm, sleepwake_guard):
    guard = sleepwake_guard(llm)
{sleep}
    guard.check().raise_for_verdict()
'''

_SLEEP = {
    1: """\
    llm.sleep(level=1)
    llm.wake_up()""",
    2: """\
    llm.sleep(level=2)
    llm.wake_up(tags=["weights"])
    llm.collective_rpc("reload_weights")
    llm.wake_up(tags=["kv_cache"])""",
}


def setting(wanted: Wanted, *, scenarios: Path, in_toml: bool = False) -> str:
    """The lines of pytest's settings; what is tested stands there too, so that `--sleepwake` is enough."""
    words = (f"--sleepwake-{word[2:]}" if word.startswith("--") else word for word in asked(wanted))
    folder, options = str(scenarios), shlex.join(words)
    if in_toml:
        folder, options = json.dumps([folder]), json.dumps(options)
    return f"sleepwake_scenarios = {folder}\naddopts = {options}\n"


def settings_in(folder: Path) -> Path | None:
    """The file in which pytest finds its settings already."""
    for name, begins in _SETTINGS.items():
        file = folder / name
        if file.is_file() and begins in file.read_text(encoding="utf-8"):
            return file
    return None


def guard_test(wanted: Wanted) -> str:
    """A test of an engine in a program of the user's own."""
    return _GUARD.format(model=wanted.model or "Qwen/Qwen3-0.6B", sleep=_SLEEP[wanted.level])
