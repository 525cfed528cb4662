"""Runs on servers that are broken in many ways, one a row of a table.

``python -m tests.torture.broken_servers``: each must end with exit code 4, or 3 where answers are broken,
before its deadline and in little memory; what was recorded until then must be readable, and the server awake.
What breaks it stands before a server that is sound, a fake.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import anyio
import httpx
from anyio.abc import ByteStream, SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener

from harness.errors import ExitCode
from harness.history.layout import CELLS_FOLDER, HISTORY_FILE
from harness.history.recording import load_recording
from tests.drive.guest.broken import BROKEN
from tests.fake_vllm.threads import Served
from tests.marked_part import write_part
from tests.small_scenario import SCENARIO, write_scenario

REPOSITORY = Path(__file__).parents[2]
PART = "broken servers"
MOST_MIB = 300
DEADLINE_S = 300.0
"""For one run, which asks a hundred times with a deadline of seconds each."""
_STATUS = "status-at-the-end"
PATIENT = SCENARIO.replace("answer: 30}", "answer: 10, transition: 10}")

Changes = Callable[[bytes], bytes]
ANSWERS = ("/v1/completions",)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to be broken.

    Attributes:
        name: What is broken, in words.
        paths: Which calls are: those whose paths begin like this.
        says: What is said instead of the server's answer, one of :data:`BROKEN`;
        changes: or what becomes of its answer.
        carried_out: Whether the server hears of the call all the same.
        since: The path of the call that makes it so; None: it is so from the beginning.
        codes: The exit codes that are right.
        scheme: How it is addressed.
        host: Where it is looked for.
    """

    name: str
    paths: tuple[str, ...] = ("/",)
    says: str | None = None
    changes: Changes | None = None
    carried_out: bool = False
    since: str | None = None
    codes: frozenset[int] = frozenset({ExitCode.INFRASTRUCTURE, ExitCode.INCONCLUSIVE})
    scheme: str = "http"
    host: str = "127.0.0.1"


def nan_for_numbers(answer: bytes) -> bytes:
    """NaN for every negative number, of which only log-probabilities are any."""
    return re.sub(rb"-\d+\.\d+", lambda found: b"NaN".ljust(len(found[0])), answer)


def a_token_more(answer: bytes) -> bytes:
    """Another digit where it says how many tokens it made."""

    def lie(found: re.Match[bytes]) -> bytes:
        return found[1] + str((int(found[2]) + 1) % 10).encode()

    return re.sub(rb'("completion_tokens":\s*)(\d)', lie, answer)


def cut_short(answer: bytes) -> bytes:
    """Half of it."""
    return answer[: len(answer) // 2]


def another_start() -> Changes:
    """One of two servers in turn, by the time of their start."""
    turns = [b"1", b"2"]

    def change(answer: bytes) -> bytes:
        turns.reverse()
        return re.sub(rb"(\nprocess_start_time_seconds )\d", rb"\g<1>" + turns[0], answer)

    return change


CONFIRMED = frozenset({ExitCode.CLEAN})
"""Of a server that still tells by other means that it slept and woke."""
FOUND = frozenset({ExitCode.CORRUPT_OR_DEGRADED})
"""Of a sleep or wake-up that fails: that is what a run looks for."""

AT_THE_DOOR = tuple(
    Kind(name=f"everything: {name}", says=name)
    for name in (
        *("hangs", "drips", "a gigabyte", "a gigabyte in chunks", "headers without end", "gzip bomb"),
        *("page", "list", "no number", "redirect", "circle", "hangs up", "half an answer", "no HTTP"),
        *("no key", "rate limit", "no backend"),
    )
)
ON_THE_WAY = (
    Kind(name="TLS: an unknown certificate", scheme="https"),
    Kind(name="TLS: none where it is expected", says="text", scheme="https://"),
    Kind(name="IPv6: nobody listens", host="[::1]"),
    Kind(name="two servers behind one address", paths=("/metrics",), changes=another_start()),
)
LATER = (
    *(
        Kind(name=f"answers: {name}", paths=ANSWERS, says=name)
        for name in ("hangs", "drips", "a gigabyte", "page", "no number", "no backend", "hangs up")
    ),
    Kind(name="answers: end in the middle", paths=ANSWERS, changes=cut_short),
    Kind(name="answers: NaN for log-probabilities", paths=ANSWERS, changes=nan_for_numbers),
    Kind(name="answers: count their tokens wrongly", paths=ANSWERS, changes=a_token_more),
    Kind(
        name="/metrics: a gigabyte, once it sleeps",
        paths=("/metrics",),
        says="a gigabyte",
        since="/sleep",
        codes=CONFIRMED,
    ),
    Kind(
        name="/is_sleeping, /metrics: a page, once it sleeps",
        paths=("/is_sleeping", "/metrics"),
        says="page",
        since="/sleep",
    ),
    Kind(
        name="/wake_up: hangs, and is carried out",
        paths=("/wake_up",),
        says="hangs",
        carried_out=True,
        codes=FOUND,
    ),
    Kind(
        name="/sleep: a gateway's 502, and is carried out",
        paths=("/sleep",),
        says="no backend",
        carried_out=True,
        codes=FOUND,
    ),
)
KINDS = (*AT_THE_DOOR, *ON_THE_WAY, *LATER)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What came of one run."""

    kind: Kind
    code: int | None
    """None: it had to be killed."""
    seconds: float
    peak_mib: float
    history: str
    """What is left of it."""
    is_readable: bool
    awake: bool
    last_line: str

    @property
    def is_right(self) -> bool:
        """Whether it ended as it must."""
        return self.code in self.kind.codes and self.peak_mib < MOST_MIB and self.is_readable and self.awake


class Door:
    """What stands before a server, and breaks what is said through it."""

    def __init__(self, kind: Kind, behind: str) -> None:
        self._kind = kind
        self._port = int(behind.rpartition(":")[2])
        self._broken = kind.since is None

    async def handle(self, stream: ByteStream) -> None:
        """Answer one call."""
        async with stream:
            try:
                request = await _read(stream)
                path = request.split(b" ", 2)[1].decode().partition("?")[0]
                await self._answer(stream, request, path)
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError, IndexError):
                pass  # who asked has left, or spoke no HTTP

    async def _answer(self, stream: ByteStream, request: bytes, path: str) -> None:
        kind = self._kind
        breaks = self._broken and path.startswith(kind.paths)
        if kind.says is not None and breaks:
            if kind.carried_out:
                await self._asked(request)
            await BROKEN[kind.says][0](stream)  # type: ignore[arg-type]  # it only sends
            return
        answer = await self._asked(request)
        await stream.send(kind.changes(answer) if kind.changes is not None and breaks else answer)
        self._broken = self._broken or path == kind.since

    async def _asked(self, request: bytes) -> bytes:
        """The whole answer of the server."""
        answer = b""
        async with await anyio.connect_tcp("127.0.0.1", self._port) as server:
            await server.send(request)
            try:
                while True:
                    answer += await server.receive()
            except anyio.EndOfStream:
                return answer


async def _read(stream: ByteStream) -> bytes:
    """A whole request."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive()
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while len(body) < int(length[1] if length else 0):
        more = await stream.receive()
        received, body = received + more, body + more
    return received


@contextmanager
def broken(kind: Kind, behind: str, certificate: Path) -> Iterator[str]:
    """The address of a server that is broken in this way."""
    with start_blocking_portal() as portal:
        listener = portal.call(lambda: anyio.create_tcp_listener(local_host="127.0.0.1"))
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's
        serves: object = listener
        if kind.scheme == "https":
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(certificate)
            serves = TLSListener(listener, tls)
        serving = portal.start_task_soon(serves.serve, Door(kind, behind).handle)  # type: ignore[attr-defined]  # either listener
        yield f"{kind.scheme.removesuffix('://')}://{kind.host}:{port}"
        serving.cancel()
        portal.call(listener.aclose)


def tried(kind: Kind, folder: Path, certificate: Path) -> Row:
    """Run on a server that is broken in this way."""
    write_scenario(folder, PATIENT)
    with Served() as served:
        behind = served.start()
        with broken(kind, behind, certificate) as endpoint, TemporaryFile("w+") as said:
            code, seconds, peak = _measured(endpoint, folder, said)
            said.seek(0)
            lines = [line for line in said.read().splitlines() if line.strip()]
        awake = not httpx.get(f"{behind}/is_sleeping", timeout=60).json()["is_sleeping"]
    history, is_readable = _history(folder)
    return Row(
        kind=kind,
        code=code,
        seconds=seconds,
        peak_mib=peak,
        history=history,
        is_readable=is_readable,
        awake=awake,
        last_line=lines[-1] if lines else "",
    )


_PROGRAM = f"""
import atexit, pathlib
told = pathlib.Path("/proc/self/status").read_text
atexit.register(lambda: pathlib.Path({_STATUS!r}).write_text(told()))
from harness.cli import main
main()
"""
"""The command, which leaves the kernel's word on its memory: what ``wait4`` says includes who started it."""


def _measured(endpoint: str, folder: Path, said: IO[str]) -> tuple[int | None, float, float]:
    """Exit code, seconds and the peak of resident memory of a run."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SLEEPWAKE_CACHE": str(folder / "cache")}
    program = [sys.executable, "-c", _PROGRAM]
    began = time.monotonic()
    run = subprocess.Popen(
        [*program, "run", "scenarios/small.yaml", "--endpoint", endpoint],
        cwd=folder,
        env=environment,
        stdout=said,
        stderr=subprocess.STDOUT,
    )
    late = threading.Timer(DEADLINE_S, run.kill)
    late.start()
    run.wait()
    late.cancel()
    if run.returncode < 0:
        return None, time.monotonic() - began, math.inf
    peak = re.search(r"VmHWM:\s+(\d+) kB", (folder / _STATUS).read_text(encoding="utf-8"))
    assert peak
    return run.returncode, time.monotonic() - began, int(peak[1]) / 1024


def _history(folder: Path) -> tuple[str, bool]:
    """What is left of the run, and whether it can be read."""
    histories = sorted((folder / "reports" / "latest" / CELLS_FOLDER).glob(f"*/{HISTORY_FILE}"))
    if not histories:
        return "nothing begun", True
    try:
        answers = sum(len(each.answers) for path in histories for each in load_recording(path.parent).passes)
    except ValueError as error:
        return f"unreadable: {error}", False
    return f"{answers} answers", True


def table(rows: Sequence[Row]) -> str:
    """All of them, in Markdown."""
    told = (
        f"| {row.kind.name} | {'killed' if row.code is None else row.code} | {row.seconds:.0f} | "
        f"{row.peak_mib:.0f} | {row.history} | {'yes' if row.awake else 'no'} |"
        for row in rows
    )
    head = ("| what is broken, and how | exit code | seconds | peak MiB | history | awake afterwards |",)
    right = sum(row.is_right for row in rows)
    return "\n".join(
        (*head, "|---|---:|---:|---:|---|---|", *told, "", f"{right} of {len(rows)} ended as they must.")
    )


def main() -> int:
    """Try them all; end with 1 if one did not end as it must."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-k", default="", help="only those whose name holds this")
    parser.add_argument("--into", type=Path, help=f'the page whose part "{PART}" is rewritten')
    asked = parser.parse_args()
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        for number, kind in enumerate(kind for kind in KINDS if asked.k in kind.name):
            inside = Path(folder) / str(number)
            inside.mkdir()
            rows.append(row := tried(kind, inside, certificate))
            sys.stderr.write(f"{'ok ' if row.is_right else 'BAD'} {row.kind.name}: {row}\n")
    told = table(rows)
    if asked.into:
        command = f"python -m tests.torture.broken_servers --into {asked.into}"
        write_part(asked.into, PART, f"Written by `{command}`.\n\n{told}")
    else:
        sys.stdout.write(f"{told}\n")
    return 0 if all(row.is_right for row in rows) else 1


def make_certificate(folder: Path) -> Path:
    """A certificate that nobody trusts, and its key, in one file."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody", "-days", "2"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(
        "".join((folder / name).read_text(encoding="utf-8") for name in ("key.pem", "certificate.pem")),
        encoding="utf-8",
    )
    return both


if __name__ == "__main__":
    sys.exit(main())
