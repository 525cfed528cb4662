"""Harnesses that are gone, and others that live."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.servers.owner import Owner, Place
from harness.servers.processes import identify


@pytest.fixture
def anyio_backend() -> str:
    """Servers that are not ours are reached through sockets, so time is the machine's."""
    return "asyncio"


@pytest.fixture
def dead_owner() -> Owner:
    """A harness that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify(process.pid)
        process.kill()
    assert identity is not None
    return Owner(place=Place.here(), process=identity)


@pytest.fixture
def other_owner() -> Owner:
    """Another process that lives."""
    identity = identify(os.getppid())
    assert identity is not None
    return Owner(place=Place.here(), process=identity)
