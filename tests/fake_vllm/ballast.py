"""Memory that really comes and goes, so that sleeping can be seen from outside the process.

A toy model's weights and blocks are a few kilobytes; no measurement of a process would show them leave.
"""

from __future__ import annotations

import mmap

WEIGHTS, KV_CACHE = 48 * 1024 * 1024, 48 * 1024 * 1024
"""Bytes; well above what an idle process gives back by itself."""


class Ballast:
    """Pages that stand for what a larger model takes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.load()

    def load(self) -> None:
        """Touch every page, as loading weights does and blank blocks do."""
        for start in range(0, self._size, mmap.PAGESIZE):
            self._pages[start] = 1

    def discard(self) -> None:
        """Give every page back to the operating system."""
        self._pages.madvise(mmap.MADV_DONTNEED)
