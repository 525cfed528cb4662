"""A server behind a real nginx with TLS, a key and a path prefix, as a gateway in production is."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.fake_vllm.threads import Served

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(
        not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx, openssl"
    ),
]

KEY = "sk-that-nobody-may-see"

CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;
    location /team/model/ {{
      if ($http_authorization != "Bearer {key}") {{ return 401; }}
      proxy_pass {behind}/; proxy_buffering off;
    }}
    location / {{ return 302 http://127.0.0.1:{port}/login; }}
  }}
}}
"""


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Iterator[Callable[[str], str]]:
    """The address of a path behind nginx; its certificate is ``certificate.pem`` in the working directory."""
    folder = tmp_path_factory.mktemp("nginx")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gateway", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*made, *names, *files], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = CONFIGURATION.format(folder=folder, port=port, key=KEY, behind=served.start())
    (folder / "nginx.conf").write_text(text)
    shutil.copy(folder / "certificate.pem", Path.cwd() / "certificate.pem")
    program = shutil.which("nginx") or "nginx"
    with subprocess.Popen([program, "-e", "stderr", "-c", str(folder / "nginx.conf")]) as nginx:
        until = time.monotonic() + 60
        while not (folder / "pid").exists():
            assert time.monotonic() < until, "nginx does not start"
            time.sleep(0.02)
        yield lambda path: f"https://127.0.0.1:{port}{path}"
        nginx.terminate()


def test_a_run_reaches_the_server_and_leaves_no_key(
    here: Path, gateway: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of the run gets through, and no file that it writes holds the key."""
    monkeypatch.setenv("SLEEPWAKE_API_KEY", KEY)
    endpoint = gateway("/team/model")
    assert call(["run", "--endpoint", endpoint, "--ca-file", "certificate.pem"]) == ExitCode.CLEAN
    written = [path for path in here.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        ("/team/model", ["--ca-file", "certificate.pem"], "401: it wants a key"),
        ("/team/model", [], "no secure connection"),
        ("/other", ["--ca-file", "certificate.pem", "--api-key", KEY], "which is not followed"),
    ],
    ids=["no key", "unknown certificate", "redirect"],
)
def test_what_stands_before_the_server_is_told_in_words(  # noqa: PLR0917 - pytest's fixtures
    here: Path,
    gateway: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    path: str,
    options: list[str],
    words: str,
) -> None:
    """Exit 4 before anything is done, and before a run directory is made."""
    assert call(["run", "--endpoint", gateway(path), *options]) == ExitCode.INFRASTRUCTURE
    told = capsys.readouterr()
    assert words in told.err
    assert KEY not in told.out + told.err
    assert not (here / "reports").exists()
