"""Writes a container's output to a file while it appears."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Thread

import requests
import urllib3
from docker.errors import DockerException
from docker.models.containers import Container

from harness.redaction import hide
from harness.servers import logs

_JOIN_S = 3.0

logger = logging.getLogger(__name__)


class LogFollower:
    """Appends one container's output to a log file as it comes, secrets replaced on the way."""

    def __init__(self, path: Path, secrets: Iterable[str]) -> None:
        self._path = path
        self._secrets = frozenset(secrets)
        self._file = logs.open_log(path)
        self._start = self._file.tell()
        self._received = 0
        self._thread: Thread | None = None

    def follow(self, container: Container) -> None:
        """Begin; the container must have been started, as Docker ends the stream of one that was not."""
        self._thread = Thread(target=self._follow, args=(container,), name="container log", daemon=True)
        self._thread.start()

    def tail(self, lines: int) -> str:
        """Return the end of what this container wrote."""
        return logs.tail(self._path, lines, start=self._start)

    def wait_for_end(self) -> None:
        """Return once the output of a container that has ended is in the file; blocks for seconds at most."""
        if self._thread:
            self._thread.join(_JOIN_S)

    def complete(self, container: Container) -> None:
        """Make up for a stream that broke off: Docker keeps the output as long as the container exists."""
        self.wait_for_end()
        everything = container.logs()
        if len(everything) > self._received:
            self._file.truncate(self._start)
            self._write(everything)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _follow(self, container: Container) -> None:
        try:
            for line in _lines(container.logs(stream=True, follow=True)):
                self._write(line)
                self._received += len(line)
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            logger.info("the log of %s broke off: %s", container.name, error)

    def _write(self, output: bytes) -> None:
        self._file.write(hide(output.decode(errors="replace"), self._secrets).encode())
        self._file.flush()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines, so that no secret is cut in two; the rest last."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
