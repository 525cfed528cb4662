"""Notices that the harness itself was stopped, with its machine or alone: time then says nothing.

A task that sleeps half a second again and again looks how long that took by the clock that deadlines are kept
by, for how long the machine was suspended meanwhile, and whether the clock that people set was set.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import anyio

from harness.drive.recorder import Recorder
from harness.history.events import HarnessStopped

BEAT_S = 0.5
"""From one beat to the next."""

STOPPED_S = 5.0
"""By how much a beat must come late, beyond what this process computed meanwhile."""

_JUMPED_S = 5.0
"""By how much the wall clock must have been set."""


class Beat(NamedTuple):
    """The clocks at a moment, in seconds."""

    running: float
    """What deadlines are kept by; stands still while the machine is suspended."""
    suspended: float
    """For how long the machine has been suspended since it booted."""
    wall: float
    """The clock that people set, less the time since the machine booted."""
    computed: float
    """Processor time of this process."""


def beat() -> Beat:
    """Read all clocks."""
    running = time.monotonic()
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else running
    return Beat(
        running=anyio.current_time(),
        suspended=since_boot - running,
        wall=time.time() - since_boot,
        computed=time.process_time(),
    )


def stop_between(before: Beat, now: Beat, *, t: float) -> HarnessStopped | None:
    """What happened between two beats, recorded at ``t``; None where nothing did."""
    suspended = max(0.0, now.suspended - before.suspended)
    late = now.running - before.running - BEAT_S - (now.computed - before.computed)
    stood, jumped = max(0.0, late) + suspended, now.wall - before.wall
    if stood < STOPPED_S and abs(jumped) < _JUMPED_S:
        return None
    return HarnessStopped(
        t=t,
        seconds=stood if stood >= STOPPED_S else 0.0,
        suspended_seconds=suspended,
        clock_jump_seconds=jumped if abs(jumped) >= _JUMPED_S else 0.0,
    )


async def keep_beating(recorder: Recorder) -> None:
    """Record every stop, until cancelled."""
    before = beat()
    while True:
        await anyio.sleep(BEAT_S)
        now = beat()
        if stop := stop_between(before, now, t=recorder.now()):
            recorder.record(stop)
        before = now
