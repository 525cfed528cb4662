"""The command that opens a report: in the browser of this desktop, or served to one elsewhere."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from harness.cli.option_sources import runs_folder
from harness.cli.shared import RunArgument, print_lines
from harness.errors import ExitCode, UsageError
from harness.extras import require
from harness.runs.finding import REPORTS, find_run

LOOPBACK = "127.0.0.1"
_OUR_NAMES = frozenset({LOOPBACK, "localhost"})
"""How a browser may call us; any other name came here by a trick of the name service."""


def show(
    name: RunArgument = None,
    /,
    *,
    serve: Annotated[bool, Parameter(negative=())] = False,
    port: Annotated[int, Parameter(show_default=False)] = 0,
) -> int:
    """Open the report of a run in the browser.

    Where there is no desktop, the report is served to this machine alone until Ctrl-C.

    Args:
        name: A run directory. Without one: the latest.
        serve: Serve it, also where there is a desktop.
        port: The port to serve it at. Default: a free one.
    """
    from harness.report import write_report
    from harness.report.writer import HTML_FILE
    from harness.runs.judging import judge_directory

    directory = find_run(name, out=runs_folder(REPORTS))
    page = directory / HTML_FILE
    if not page.exists():
        require("report", for_what=HTML_FILE)
        write_report(directory, judge_directory(directory).report)
    if not serve and has_desktop(os.environ) and webbrowser.open(page.as_uri()):
        print_lines([f"opened: {page}"])
        return ExitCode.CLEAN
    try:
        server = server_of(page, port=port)
    except OSError as error:
        raise UsageError(
            f"--port: cannot serve at {LOOPBACK}:{port}: {error.strerror}",
            remedy="leave it out: a free one is taken",
        ) from error
    print_lines(_how_to_reach(page, server.server_port))
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print_lines([""])
    finally:
        server.server_close()
    return ExitCode.CLEAN


def has_desktop(environ: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a browser opened here would be seen by who asks for it."""
    if "SSH_CONNECTION" in environ:
        return False
    return platform in {"darwin", "win32"} or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _how_to_reach(page: Path, port: int) -> list[str]:
    return [
        f"report: {page}",
        f"open http://{LOOPBACK}:{port}/ in a browser on this machine; Ctrl-C ends it",
        f"from another machine, first: ssh -L {port}:{LOOPBACK}:{port} THIS_MACHINE",
    ]


def server_of(page: Path, *, port: int) -> ThreadingHTTPServer:
    """A server of this one page, on loopback only; it reads the file anew each time.

    Raises:
        OSError: the port cannot be had.
    """

    class OnePage(BaseHTTPRequestHandler):
        """Answers with the page, to whoever calls us by our own name."""

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
            if host not in _OUR_NAMES:
                self.send_error(HTTPStatus.FORBIDDEN)
            elif self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._send(page.read_bytes())

        def _send(self, content: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            for header, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(content))),
                ("Content-Security-Policy", "frame-ancestors 'none'"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cache-Control", "no-store"),
            ):
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    return ThreadingHTTPServer((LOOPBACK, port), OnePage)
