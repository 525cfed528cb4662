"""Becomes the engine, after asking the kernel to end it when the harness dies.

Run as ``python -I -S launch.py HARNESS_PID COMMAND...``; it imports nothing of the harness.  With 0 as
the harness's id the engine may outlive it.
A small program rather than ``preexec_fn``, which may deadlock in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _main(harness_pid: int, command: list[str]) -> None:
    if harness_pid:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != harness_pid:
            sys.exit("sleepwake died before its engine was started")
    try:
        os.execvp(command[0], command)  # noqa: S606  (replacing this process is the purpose)
    except OSError as error:
        sys.exit(f"the engine {command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
