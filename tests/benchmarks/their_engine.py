"""A real vLLM that somebody else runs: on an address that stays, whatever becomes of the process.

``python -m tests.benchmarks.their_engine --port 8123`` serves until it is interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from harness.engine_plugin.faults import switchboard
from harness.models.model import Dtype, provide_model
from harness.servers.base import ServerSpec
from harness.servers.flags import server_args, server_env
from harness.servers.process.runtime import VLLM_SERVER

HOST = "127.0.0.1"
MODEL = "model"
BOOT_S, CALL_S, END_S = 1800.0, 600.0, 60.0
"""Deadlines of a machine that has much else to do."""


@dataclass(kw_only=True, eq=False)
class TheirEngine:
    """One server; faults can be planted in it while it runs.

    Attributes:
        port: Of loopback.
        log: What it says is appended here.
        dtype: What it computes in.
        args: Flags besides the usual ones.
    """

    port: int
    log: Path
    dtype: Dtype = "float32"
    args: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Boot it; return once it answers.

        Raises:
            RuntimeError: it does not.
        """
        spec = ServerSpec(
            run_id="theirs",
            cell="theirs",
            model=provide_model(dtype=self.dtype).location,
            served_model_name=MODEL,
            args=(f"--dtype={self.dtype}", *self.args),
            env={"SLEEPWAKE_FAULT": f"{switchboard.__file__}:install"},
            log_path=self.log,
            boot_deadline_s=BOOT_S,
        )
        flags = server_args(spec, "cpu", engine_command=VLLM_SERVER, host=HOST, port=str(self.port))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*VLLM_SERVER, *flags],
                env={**os.environ, **server_env(spec, "cpu")},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + BOOT_S
        while not _answers(self.url):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the engine did not start; it said why in {self.log}")
            time.sleep(2)
        # The first request of an engine takes longer than any other.
        self.post("/v1/completions", body={"model": MODEL, "prompt": "A river", "max_tokens": 2})

    def stop(self) -> None:
        """End it and all its processes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):  # its whole group is killed below
            process.wait(END_S)
        with suppress(ProcessLookupError):  # nobody of it is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self) -> None:
        """Stop it, and start it at the same address."""
        self.stop()
        self.start()

    def post(self, path: str, params: Mapping[str, object] | None = None, body: object = None) -> None:
        """Call an endpoint that must succeed."""
        answer = httpx.post(self.url + path, params=dict(params or {}), json=body, timeout=CALL_S)  # type: ignore[arg-type]  # whatever can be said
        answer.raise_for_status()

    def sleep(self, level: int) -> None:
        """Put it to sleep."""
        self.post("/sleep", {"level": level})

    def wake_up(self, *tags: str) -> None:
        """Wake it up."""
        self.post("/wake_up", {"tags": list(tags)} if tags else None)

    def call_workers(self, method: str, **kwargs: str) -> None:
        """Call a method of the workers."""
        self.post("/collective_rpc", body={"method": method, "kwargs": kwargs})

    def make_whole(self) -> None:
        """Undo what was planted, load the weights, and forget what was cached."""
        self.call_workers("heal")
        self.call_workers("reload_weights")
        self.post("/reset_prefix_cache")


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).is_success
    except httpx.TransportError:
        return False


@contextmanager
def their_engine(
    port: int, log: Path, *, dtype: Dtype = "float32", args: tuple[str, ...] = ()
) -> Iterator[TheirEngine]:
    """Run one; it is gone afterwards."""
    engine = TheirEngine(port=port, log=log, dtype=dtype, args=args)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("args", nargs="*", help="flags of vLLM")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with their_engine(asked.port, log, dtype=asked.dtype, args=tuple(asked.args)) as engine:
            sys.stdout.write(f"{engine.url}\n")
            sys.stdout.flush()
            with suppress(KeyboardInterrupt):
                signal.pause()


if __name__ == "__main__":
    main()
