"""Processes told apart for certain, their families, their memory and their end.

Linux only.  A process is named by its id *and* its start time, so a recycled id is never
mistaken for the process that had it before.  A family is everything that descends from a
process or carries its marker in the environment: children that made a session of their
own, or whose parent died, are found as well.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from harness.servers.base import Activity

_PROC = Path("/proc")
_POLL_S = 0.05
_TRACKER_GRACE_S = 2.0
_KILL_DEADLINE_S = 5.0

MARKER = "SLEEPWAKE_SERVER"


class ProcessId(NamedTuple):
    """One process for certain: its id, and its start in clock ticks since the machine booted."""

    pid: int
    started: int


def identify(pid: int) -> ProcessId | None:
    """Return the process that has this id now; None when there is none or it is a zombie."""
    stat = _stat(pid)
    return None if stat is None else ProcessId(pid, stat.started)


def is_running(process: ProcessId) -> bool:
    """Whether this very process still runs."""
    return identify(process.pid) == process


def family(known: Iterable[ProcessId], *, marker: str) -> set[ProcessId]:
    """Return all that still run of ``known``, of the bearers of ``marker``, and of their descendants."""
    everyone = {stat.pid: stat for pid in psutil.pids() if (stat := _stat(pid)) is not None}
    now = {ProcessId(stat.pid, stat.started) for stat in everyone.values()}
    members = {process.pid for process in known if process in now}
    members |= {pid for pid in everyone if _bears(pid, marker)}
    children: dict[int, list[int]] = {}
    for stat in everyone.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    pending = list(members)
    while pending:
        fresh = [child for child in children.get(pending.pop(), []) if child not in members]
        members.update(fresh)
        pending.extend(fresh)
    members.discard(os.getpid())
    return {ProcessId(pid, everyone[pid].started) for pid in members}


def end(find: Callable[[], set[ProcessId]], *, grace_s: float) -> set[ProcessId]:
    """End all processes that ``find`` returns, in order first, by force after ``grace_s``.

    Blocks.  Python's resource trackers go last: they unlink the shared memory of those who
    were killed, and leave by themselves as soon as nobody is left to track.

    Returns:
        Those that could not be ended (they hang inside the kernel, or belong to another user).
    """
    for process in find():
        _send(process, signal.SIGTERM)
    if not _wait_for_end(find, grace_s):
        _kill_until_gone(lambda: {process for process in find() if not _is_resource_tracker(process.pid)})
        _wait_for_end(find, _TRACKER_GRACE_S)
        _kill_until_gone(find)
    return find()


def resident_bytes(pid: int) -> int:
    """Return the anonymous and shared memory of a process, its share of each page; 0 when it is gone.

    Source: ``/proc/PID/smaps_rollup`` (proportional set size).  psutil's figure counts mapped files as well.
    """
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    return sum(1024 * int(fields[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem") if name in fields)


def activity(pids: Iterable[int]) -> Activity | None:
    """Look at what processes do; None where none of them can be seen.

    Source: ``/proc/PID/stat`` (utime, stime, in clock ticks) and the state of every thread.
    """
    looks = [look for pid in pids if (look := _activity(pid)) is not None]
    if not looks:
        return None
    return Activity(
        cpu_seconds=sum(look.cpu_seconds for look in looks), wants_cpu=any(look.wants_cpu for look in looks)
    )


def _activity(pid: int) -> Activity | None:
    folder = _PROC / str(pid)
    try:
        fields = _fields(folder / "stat")
        threads = [_state(thread) for thread in (folder / "task").iterdir()]
    except OSError:
        return None
    ticks = int(fields[11]) + int(fields[12])
    return Activity(
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"), wants_cpu=not set("RDTt").isdisjoint(threads)
    )


def _state(thread: Path) -> str:
    """The state of a thread; empty when it is gone."""
    try:
        return _fields(thread / "stat")[0]
    except OSError:
        return ""


def resident_by_process(pids: Iterable[int]) -> dict[str, int]:
    """Return the :func:`resident_bytes` of each process, by its name and id; without those that are gone."""
    sizes = {f"{_process_name(pid)}:{pid}": resident_bytes(pid) for pid in pids}
    return {name: size for name, size in sizes.items() if size}


def _process_name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def listens_on(pid: int, port: int) -> bool:
    """Whether a process accepts connections on a TCP port."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)


class _Stat(NamedTuple):
    pid: int
    parent: int
    started: int


def _stat(pid: int) -> _Stat | None:
    """Read it here, because psutil tells a start by the clock, which may be set while a process runs."""
    try:
        fields = _fields(_PROC / str(pid) / "stat")
    except OSError:
        return None
    state, parent, started = fields[0], int(fields[1]), int(fields[19])
    return None if state in "ZX" else _Stat(pid, parent, started)


def _fields(stat: Path) -> list[str]:
    """What follows the name, which may hold spaces and brackets: state, parent, ..."""
    return stat.read_text().rpartition(")")[2].split()


def _bears(pid: int, marker: str) -> bool:
    try:
        return psutil.Process(pid).environ().get(MARKER) == marker
    except psutil.Error:
        return False


def _is_resource_tracker(pid: int) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in word for word in psutil.Process(pid).cmdline())
    except psutil.Error:
        return False


def _send(process: ProcessId, signal_number: signal.Signals) -> None:
    """Signal this very process: the descriptor pins it while its start time is compared."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        if is_running(process):
            signal.pidfd_send_signal(descriptor, signal_number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(descriptor)


def _wait_for_end(find: Callable[[], set[ProcessId]], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while find():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _kill_until_gone(find: Callable[[], set[ProcessId]]) -> None:
    """Kill again and again: what is being killed may still start children."""
    deadline = time.monotonic() + _KILL_DEADLINE_S
    while (remaining := find()) and time.monotonic() < deadline:
        for process in remaining:
            _send(process, signal.SIGKILL)
        time.sleep(_POLL_S)
