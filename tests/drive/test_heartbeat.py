"""A harness that did not run itself says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.drive.heartbeat import BEAT_S, Beat, stop_between

START = Beat(running=100.0, suspended=7.0, wall=1e9, computed=3.0)


def later(*, running: float, suspended: float = 0.0, wall: float = 0.0, own: float = 0.0) -> Beat:
    """The clocks when so much has been added to each."""
    return Beat(100.0 + running, 7.0 + suspended, 1e9 + wall, 3.0 + own)


def test_a_beat_in_time_is_no_stop() -> None:
    """Nor is one that is somewhat late, or late because of what was computed here."""
    assert stop_between(START, later(running=BEAT_S), t=1.0) is None
    assert stop_between(START, later(running=BEAT_S + 3), t=1.0) is None
    assert stop_between(START, later(running=BEAT_S + 20, own=18), t=1.0) is None


@pytest.mark.parametrize(("running", "suspended"), [(40.5, 0.0), (0.5, 40.0)])
def test_a_stopped_process_and_a_suspended_machine_are_told_apart(running: float, suspended: float) -> None:
    """Both have lasted 40 seconds; our clock stands still while the machine is suspended."""
    stop = stop_between(START, later(running=running, suspended=suspended), t=7.0)
    assert stop is not None
    assert (stop.t, stop.seconds, stop.suspended_seconds, stop.clock_jump_seconds) == (7, 40, suspended, 0)


def test_a_clock_that_was_set_is_no_stop() -> None:
    """It is recorded, and nothing of ours depends on it."""
    stop = stop_between(START, later(running=BEAT_S, wall=-3600), t=7.0)
    assert stop is not None
    assert (stop.seconds, stop.clock_jump_seconds) == (0.0, -3600.0)


STOPPED = """
import os, signal
import anyio
from harness.drive import heartbeat
heartbeat.BEAT_S, heartbeat.STOPPED_S = 0.1, 0.5
class Told:
    now = staticmethod(lambda: 1.0)
    record = staticmethod(lambda stop: print(stop.seconds, flush=True))
async def stop():
    os.kill(os.getpid(), signal.SIGSTOP)
async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(heartbeat.keep_beating, Told)
        group.start_soon(stop)
anyio.run(main)
"""
"""Stops itself once the first beat has read the clocks: stopped any sooner, it would have nothing to tell."""


def test_a_harness_that_was_really_stopped_notices() -> None:
    """SIGSTOP, SIGCONT: the next beat tells for how long."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
            time.sleep(1.0)  # how long it is stopped
            child.send_signal(signal.SIGCONT)
            assert float(child.stdout.readline()) >= 0.8
        finally:
            child.kill()  # or leaving the block waits for it, whatever failed
