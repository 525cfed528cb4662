"""A server behind a real nginx with TLS, a key and a path prefix, as a gateway in production is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import call
from harness.errors import ExitCode
from tests.drive.guest.gateway import AVAILABLE, KEY, gateway
from tests.fake_vllm.threads import Served

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(not AVAILABLE, reason="needs nginx, openssl"),
]


@pytest.fixture(name="gateway")
def gateway_before_the_fake(
    tmp_path_factory: pytest.TempPathFactory, served: Served
) -> Iterator[Callable[[str], str]]:
    """The address of a path behind nginx; its certificate is ``certificate.pem`` in the working directory."""
    with gateway(tmp_path_factory.mktemp("nginx"), behind=served.start()) as nginx:
        shutil.copy(nginx.certificate, Path.cwd() / "certificate.pem")
        yield lambda path: nginx.url + path


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
