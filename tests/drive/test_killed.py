"""What a harness that was killed without warning leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.check import judge
from harness.check.result import Verdict
from harness.history.layout import HISTORY_FILE
from harness.history.recording import load_recording
from tests.drive.conftest import Driver

pytestmark = pytest.mark.cell

DEADLINE_S = 60


def engines_of(folder: Path) -> list[psutil.Process]:
    """The fake engines that serve the model under ``folder``."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "tests.fake_vllm" in (process.info["cmdline"] or ())
        and str(folder) in " ".join(process.info["cmdline"])
    ]


def wait_for(condition: bool, *, until: float) -> bool:  # noqa: FBT001 - the condition itself
    """Give other processes a moment; say whether the deadline has not passed."""
    if not condition:
        time.sleep(0.02)
    assert time.monotonic() < until, "the killed harness never got that far"
    return condition


@pytest.fixture
def doomed(process_driver: Driver) -> subprocess.Popen[bytes]:
    """A harness in a process of its own, in the middle of a cell."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.drive.killed_harness",
            str(process_driver.folder),
            str(process_driver.model),
        ]
    )


def test_kill_nine_leaves_a_readable_history_and_nothing_running(
    process_driver: Driver, doomed: subprocess.Popen[bytes]
) -> None:
    """Every event that was written is readable, the cell is not clean, and no server survives the sweep."""
    driver = process_driver
    history = driver.folder / "out" / HISTORY_FILE
    until = time.monotonic() + DEADLINE_S
    while not wait_for(history.exists() and b'"answer"' in history.read_bytes(), until=until):
        pass
    doomed.kill()
    doomed.wait()
    recording = load_recording(history.parent)
    assert recording.passes
    assert not recording.finished
    assert judge(recording).verdict is not Verdict.CLEAN
    driver.runtime.sweep()
    assert engines_of(driver.model.parent) == []
