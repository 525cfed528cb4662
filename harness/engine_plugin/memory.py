"""Gives tensors' memory back to the operating system, and puts content into it again.

Works on whole storages, never on views: tensors that share one (tied weights, fused projections) are released
and restored once.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

PAGE = mmap.PAGESIZE
CHUNK = 16 << 20  # bytes handled at a time when content is saved

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


@dataclass(frozen=True)
class Region:
    """The memory of one tensor storage; ``dtype`` is how its first tensor reads it."""

    storage: torch.UntypedStorage
    dtype: torch.dtype

    @property
    def address(self) -> int:
        """Where the storage begins."""
        return self.storage.data_ptr()

    @property
    def size(self) -> int:
        """Bytes in the storage."""
        return self.storage.nbytes()

    def values(self) -> torch.Tensor:
        """The whole storage as one flat tensor of its dtype."""
        return torch.empty(0, dtype=self.dtype).set_(self.storage)

    def view(self) -> memoryview:
        """The whole storage as writable bytes."""
        return memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")


def regions(tensors: Iterable[torch.Tensor]) -> list[Region]:
    """The storages behind ``tensors``, each once; tensors without memory of this process are left out."""
    found: dict[int, Region] = {}
    for tensor in tensors:
        if (
            tensor.device.type == "cpu"
            and tensor.layout == torch.strided
            and tensor.untyped_storage().nbytes()
        ):
            region = Region(tensor.untyped_storage(), tensor.dtype)
            found.setdefault(region.address, region)
    return list(found.values())


class Mappings:
    """The private, writable mappings of this process, as ``/proc/self/maps`` lists them now.

    The others are not ours to discard: a shared mapping belongs to other processes or to a file as well, and
    a read-only one (safetensors maps checkpoints that way) cannot be written.
    """

    def __init__(self, maps: str | None = None) -> None:
        self._writable: list[tuple[int, int]] = []
        self._anonymous: list[tuple[int, int]] = []
        for line in (maps or Path("/proc/self/maps").read_text(encoding="utf-8")).splitlines():
            addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
            start, end = (int(address, 16) for address in addresses.split("-"))
            if permissions.startswith("rw") and permissions.endswith("p"):
                _append(self._writable, start, end)
                if inode == "0":
                    _append(self._anonymous, start, end)

    def writable(self, region: Region) -> bool:
        """Whether the region can be written, and only this process will see it."""
        return _covered(self._writable, region.address, region.address + region.size)

    def anonymous(self, start: int, end: int) -> bool:
        """Whether no file lies behind these addresses.

        ``MADV_DONTNEED`` on a private mapping of a file would bring the file's content back.
        """
        return _covered(self._anonymous, start, end)


def _append(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a range, joined to its neighbour: one allocation may span several mappings."""
    if ranges and ranges[-1][1] == start:
        start = ranges.pop()[0]
    ranges.append((start, end))


def _covered(ranges: list[tuple[int, int]], start: int, end: int) -> bool:
    position = bisect_right(ranges, (start, 1 << 64)) - 1
    return position >= 0 and ranges[position][0] <= start and end <= ranges[position][1]


def discard(region: Region, mappings: Mappings) -> int:
    """Throw the content of ``region`` away; returns the bytes given back to the operating system.

    Whole pages are given back and read as zeros from now on.  The first and the last page may be shared with
    other allocations: there, only the region's own bytes are overwritten.  So is everything where the pages
    cannot be given back (locked memory, huge pages of ``hugetlbfs``, a private mapping of a file).
    """
    first, last = -(-region.address // PAGE) * PAGE, (region.address + region.size) // PAGE * PAGE
    bytes_ = region.view()
    if first >= last or not mappings.anonymous(first, last) or not _dont_need(first, last - first):
        _clear(bytes_)
        return 0
    _clear(bytes_[: first - region.address])
    _clear(bytes_[last - region.address :])
    return last - first


def _dont_need(address: int, size: int) -> bool:
    """Give whole pages back; False where the kernel refuses (``EINVAL``)."""
    return bool(_libc.madvise(address, size, mmap.MADV_DONTNEED) == 0)


def _clear(bytes_: memoryview) -> None:
    if bytes_.nbytes:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(bytes_)), 0, bytes_.nbytes)


class Backup:
    """The content of regions, kept in an unlinked temporary file (``TMPDIR``).

    On a GPU, sleeping moves weights from the device to the host.  Here both are the same memory, where a copy
    would give nothing back, so the copy goes to the disk.  What the page cache holds of it belongs to no
    process and is given up under pressure, unless the directory itself is in memory (tmpfs).  The file has no
    name and vanishes with the process.
    """

    def __init__(self) -> None:
        # Unbuffered: what could not be written must not come up again when the file is closed.
        self._file = tempfile.TemporaryFile(prefix="sleepwake-", buffering=0)  # noqa: SIM115  (closed by close)
        self._offsets: dict[int, int] = {}
        self._end = 0

    def __contains__(self, region: Region) -> bool:
        return region.address in self._offsets

    def save(self, region: Region) -> None:
        """Copy the content out.

        Raises:
            OSError: The disk is full.
        """
        content = torch.empty(0, dtype=torch.uint8).set_(region.storage)
        for start in range(0, region.size, CHUNK):
            if content[start : start + CHUNK].any():  # a hole in the file reads as zeros and costs nothing
                self._write(region.view()[start : start + CHUNK], self._end + start)
        self._offsets[region.address] = self._end
        self._end += region.size
        self._file.truncate(self._end)

    def _write(self, bytes_: memoryview, offset: int) -> None:
        while bytes_:
            written = os.pwrite(self._file.fileno(), bytes_, offset)
            bytes_, offset = bytes_[written:], offset + written

    def restore(self, region: Region) -> None:
        """Copy the content back in."""
        bytes_, offset = region.view(), self._offsets[region.address]
        while bytes_:
            read = os.preadv(self._file.fileno(), [bytes_[:CHUNK]], offset)
            bytes_, offset = bytes_[read:], offset + read

    def disk_bytes(self) -> int:
        """What the backup takes on the disk."""
        return os.fstat(self._file.fileno()).st_blocks * 512

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


def resident_bytes() -> int:
    """Memory of this process that is in RAM (RSS)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
