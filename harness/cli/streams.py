"""Standard output and standard error of a command that ends its work whether they can be written or not.

A reader leaves, as ``head`` does; a disk is full; a terminal is closed; a parent starts the command with its
streams closed.  None of that is a verdict, and none may cost what a run has measured.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class EnduringFile(io.FileIO):
    """Writes until it cannot any more; what comes then goes nowhere.

    Attributes:
        lost: Why nothing more was written, as in :mod:`errno`; None where everything was.
    """

    lost: int | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or note why that cannot be done."""
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error.errno
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, self.fileno())
            os.close(nobody)
            return memoryview(data).nbytes

    @property
    def complaint(self) -> str | None:
        """What to say of output that is lost; a reader that left wanted no more of it."""
        if self.lost in {None, errno.EPIPE}:
            return None
        return f"standard output could not be written: {os.strerror(self.lost or 0)}"


def open_what_is_closed() -> None:
    """Give each closed standard descriptor to nobody, before the next file that is opened becomes it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def endure() -> EnduringFile:
    """Let ``sys.stdout`` and ``sys.stderr`` endure; return what standard output is written to.

    What their encoding lacks is shown as an escape.
    """
    open_what_is_closed()
    sys.stderr, _ = _enduring(sys.stderr, 2)
    sys.stdout, out = _enduring(sys.stdout, 1)
    return out


def _enduring(stream: TextIO | None, number: int) -> tuple[TextIO, EnduringFile]:
    file = EnduringFile(number, "wb", closefd=False)
    enduring = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=number == 2 or file.isatty(),  # noqa: PLR2004 - standard error
    )
    return enduring, file
