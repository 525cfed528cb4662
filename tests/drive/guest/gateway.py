"""A real nginx before a server, with TLS, a key and a path prefix, as a gateway in production is."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEY = "sk-that-nobody-may-see"
PREFIX = "/team/model"
AVAILABLE = bool(shutil.which("nginx") and shutil.which("openssl"))

_CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  log_format shown '$uri $http_authorization'; access_log {folder}/access.log shown;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    location {prefix}/ {{
      if ($http_authorization != "Bearer {key}") {{ return 401; }}
      proxy_pass {behind}/; proxy_buffering off; proxy_read_timeout 600s;
    }}
    location / {{ return 302 http://127.0.0.1:{port}/login; }}
  }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """One nginx.

    Attributes:
        url: Its address, without a path.
        certificate: The file with its certificate, which nobody trusts by itself.
        log: What was asked for, each with the key that was shown.
    """

    url: str
    certificate: Path
    log: Path

    @property
    def endpoint(self) -> str:
        """The address of the server behind it."""
        return self.url + PREFIX


@contextmanager
def gateway(folder: Path, *, behind: str) -> Iterator[Gateway]:
    """Start nginx before the server at ``behind``; its files are in ``folder``."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gateway", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = _CONFIGURATION.format(folder=folder, port=port, key=KEY, behind=behind, prefix=PREFIX)
    (folder / "nginx.conf").write_text(text)
    program = shutil.which("nginx") or "nginx"
    with subprocess.Popen([program, "-e", "stderr", "-c", str(folder / "nginx.conf")]) as nginx:
        try:
            until = time.monotonic() + 60
            while not (folder / "pid").exists():
                if time.monotonic() > until:
                    raise TimeoutError("nginx does not start")
                time.sleep(0.02)
            yield Gateway(
                url=f"https://127.0.0.1:{port}",
                certificate=folder / "certificate.pem",
                log=folder / "access.log",
            )
        finally:
            nginx.terminate()
