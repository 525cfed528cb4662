"""A server behind a real nginx with TLS, a key and a path prefix, as a gateway in production is."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.cli import call
from harness.drive.guest.owed import Ledger, Owed
from harness.errors import ExitCode
from harness.servers.owner import Owner
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


def test_clean_shows_the_key_to_the_server_that_is_named_and_to_no_other(
    here: Path,
    gateway: Callable[[str], str],
    dead_owner: Owner,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without --endpoint it is not shown: the server stays as it is, with 4 and what mends it."""
    monkeypatch.setenv("SLEEPWAKE_CACHE", str(here / "cache"))
    monkeypatch.setenv("SLEEPWAKE_API_KEY", KEY)
    monkeypatch.setenv("SLEEPWAKE_CA_FILE", "certificate.pem")
    endpoint = gateway("/team/model")
    Ledger().write(Owed(owner=dead_owner, endpoint=endpoint, run_id="r", cell="c", asleep=True))
    trusted = ssl.create_default_context(cafile="certificate.pem")
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, verify=trusted) as theirs:
        theirs.post(f"{endpoint}/sleep")
        assert call(["clean"]) == ExitCode.INFRASTRUCTURE
        assert f"curl -fsS -X POST {endpoint}/wake_up" in capsys.readouterr().out
        assert call(["clean", "--endpoint", endpoint]) == ExitCode.CLEAN
        assert f"gave {endpoint} back, which run r left" in capsys.readouterr().out
        assert theirs.get(f"{endpoint}/is_sleeping").json() == {"is_sleeping": False}
        assert call(["clean"]) == ExitCode.CLEAN
