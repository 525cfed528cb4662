"""A small HTTP server that stands where vLLM's would: real processes, real sockets, no model.

Its ``--toy-*`` flags make it fail the way engines fail.  It takes vLLM's flags as well.
"""

import argparse
import http.server
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
)


def main() -> None:
    """Serve ``/health``, ``/pids`` and files by their path, or fail as the flags say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--toy-say", default="toy engine", help="what to write to its output first")
    parser.add_argument("--toy-say-variable", help="write the value of this environment variable as well")
    parser.add_argument("--toy-exit", type=int, help="exit with this code instead of serving")
    parser.add_argument("--toy-kill-itself", action="store_true", help="die by SIGKILL instead of serving")
    parser.add_argument("--toy-never-bind", action="store_true", help="live without listening")
    parser.add_argument("--toy-unhealthy", action="store_true", help="answer 503 for ever")
    parser.add_argument("--toy-ignore-sigterm", action="store_true")
    parser.add_argument(
        "--toy-stubborn-child", action="store_true", help="in its own session, ignores SIGTERM"
    )
    parser.add_argument("--toy-touch-mib", type=int, default=0, help="hold so much anonymous memory")
    options, _ = parser.parse_known_args()

    sys.stderr.write(f"{options.toy_say}\n")
    if options.toy_say_variable:
        sys.stderr.write(f"{os.environ[options.toy_say_variable]}\n")
    sys.stderr.flush()
    if options.toy_exit is not None:
        sys.exit(options.toy_exit)
    if options.toy_kill_itself:
        os.kill(os.getpid(), signal.SIGKILL)
    if options.toy_never_bind:
        time.sleep(600)
    # As the first process of a container it would otherwise not heed SIGTERM at all.
    signal.signal(signal.SIGTERM, signal.SIG_IGN if options.toy_ignore_sigterm else lambda *_: os._exit(0))
    ballast = bytearray(os.urandom(1)) * (options.toy_touch_mib * 1024 * 1024)
    pids = {"engine": os.getpid(), "ballast": len(ballast)}
    if options.toy_stubborn_child:
        child = subprocess.Popen(
            [sys.executable, "-c", _STUBBORN], start_new_session=True, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()  # from here on it ignores SIGTERM
        pids["child"] = child.pid
    serve(options.host, options.port, healthy=not options.toy_unhealthy, pids=pids).serve_forever()


def serve(host: str, port: int, *, healthy: bool, pids: dict[str, int]) -> http.server.ThreadingHTTPServer:
    """Return a bound server, not yet serving."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(pids).encode()
            if Path(self.path).is_file():
                body = Path(self.path).read_bytes()
            self.send_response(200 if healthy or self.path != "/health" else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            if self.path == "/exit":
                os._exit(3)

        def log_message(self, *_: object) -> None:
            """Say nothing: the tests compare the whole output."""

    return http.server.ThreadingHTTPServer((host, port), Handler)


if __name__ == "__main__":
    main()
