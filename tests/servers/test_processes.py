"""What processes are seen to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from harness.servers.processes import activity

SLEEPS = "print(flush=True); input()"
WORKS = "print(flush=True)\nwhile True: pass"


@contextmanager
def python(code: str) -> Iterator[psutil.Process]:
    """A process that has said that it runs."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield psutil.Process(child.pid)
        finally:
            child.kill()


def test_a_process_that_waits_wants_nothing() -> None:
    """Nor does it use any processor time."""
    with python(SLEEPS) as process:
        while process.status() != psutil.STATUS_SLEEPING:
            time.sleep(0.01)
        first, second = activity([process.pid]), activity([process.pid])
    assert first is not None
    assert not first.wants_cpu
    assert first == second


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_that_works_or_was_stopped_is_not_idle(*, stopped: bool) -> None:
    """However little of a core it is given: what it does not do is not its own doing."""
    with python(WORKS) as process:
        if stopped:
            process.suspend()
        seen = activity([process.pid])
    assert seen is not None
    assert seen.wants_cpu


def test_processes_that_are_gone_cannot_be_seen() -> None:
    """None of them, and one of two."""
    with python(SLEEPS) as process:
        assert activity([process.pid, 2**22]) is not None
    assert activity([process.pid]) is None
