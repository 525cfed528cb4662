"""A harness that is going to be killed: runs one cell with the fake as its engine.

Usage: ``python -m tests.drive.killed_harness FOLDER MODEL``
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from harness.drive.cell import run_cell
from tests.conftest import FAKE_ENGINE
from tests.drive.conftest import Driver, fake_processes

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    driver = Driver(folder=folder, model=Path(sys.argv[2]), runtime=fake_processes(FAKE_ENGINE, folder))
    job = driver.job(driver.cell(), env={"FAKE_VLLM": "hang-after-wake"})
    anyio.run(lambda: run_cell(job, driver.runtime, watcher=lambda _: None))
