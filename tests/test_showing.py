"""``sleepwake show``: the report in a browser, here or elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.cli import call, showing
from harness.errors import ExitCode
from tests.conftest import leave_undrawn
from tests.report.browser.runs import clean, write_run


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a page that is served."""
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>clean</title>", encoding="utf-8")
    server = showing.server_of(page, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_page_is_served_and_nothing_else(served: str) -> None:
    """There is one path, and no way out of it into the folder."""
    answer = httpx.get(f"{served}/")
    assert "<title>clean</title>" in answer.text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert httpx.get(f"{served}/../run.json").status_code == 404
    assert httpx.get(f"{served}/report.html").status_code == 404


def test_only_who_means_this_machine_is_answered(served: str) -> None:
    """A page elsewhere whose name was pointed at loopback reads nothing."""
    assert httpx.get(f"{served}/", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{served}/", headers={"Host": "localhost:9000"}).status_code == 200


@pytest.mark.parametrize(
    ("environ", "platform", "there"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "a b c d"}, "linux", False),
        ({}, "darwin", True),
    ],
)
def test_a_desktop_is_known(environ: dict[str, str], platform: str, *, there: bool) -> None:
    """Whoever came by ssh does not see a browser that opens here."""
    assert showing.has_desktop(environ, platform) is there


@pytest.mark.cell
def test_a_desktops_browser_opens_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a desktop no server is needed; a page that is not there yet is written."""
    run = write_run(tmp_path / "reports" / "run", {"on": clean()})
    run.unlink()
    opened: list[str] = []

    def open_browser(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.chdir(tmp_path)
    leave_undrawn(monkeypatch)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr("webbrowser.open", open_browser)
    assert call(["show", "run"]) == ExitCode.CLEAN
    assert opened == [run.as_uri()]
    assert run.exists()
    assert capsys.readouterr().out == f"opened: {run}\n"
