"""How busy the whole machine is, and how much of that is ours: for telling whose work made an engine slow."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from harness.servers.base import MachineTimes

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
"""What a processor does that is not idle; ``guest`` is part of ``user``, ``steal`` is others of our host."""


def machine_times(engine: Iterable[int]) -> MachineTimes | None:
    """Read what the machine, we and the processes of ``engine`` have computed so far.

    Returns:
        None where none of the engine's processes can be seen: then nobody knows what others did.
    """
    of_engine = [seconds for pid in engine if (seconds := _computed(pid)) is not None]
    if not of_engine:
        return None
    whole = psutil.cpu_times()
    return MachineTimes(
        cores=psutil.cpu_count() or 1,
        busy_seconds=sum(getattr(whole, name, 0.0) for name in _BUSY),
        own_seconds=time.process_time(),
        engine_seconds=sum(of_engine),
        throttled_seconds=throttled_seconds(_own_statistics()),
    )


def throttled_seconds(statistics: str) -> float | None:
    """For how long a control group was held back so far, by its ``cpu.stat``; None where it does not say."""
    lines = dict(line.split(maxsplit=1) for line in statistics.splitlines() if " " in line)
    microseconds = lines.get("throttled_usec")
    return None if microseconds is None else int(microseconds) / 1e6


def _computed(pid: int) -> float | None:
    """Processor time that a process and the children it has outlived have used; None when it is gone."""
    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return used.user + used.system + used.children_user + used.children_system


def _own_statistics() -> str:
    """``cpu.stat`` of the control group that we are in; empty where there is none."""
    try:
        path = _OWN_GROUP.read_text().rpartition("0::")[2].strip().lstrip("/")
        return (_CONTROL_GROUPS / path / "cpu.stat").read_text()
    except OSError:
        return ""
