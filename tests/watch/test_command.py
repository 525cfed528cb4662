"""`sleepwake watch` as a command, on fake servers in threads."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse, Response

from harness.cli import call
from harness.errors import ExitCode, HistoryError
from harness.history.run_description import RunDescription, read_description
from harness.scenario import corpus
from tests.fake_vllm.behaviours import Behaviour, Misbehaviour
from tests.fake_vllm.development_routes import DevelopmentRoutes
from tests.fake_vllm.openai_routes import OpenAiRoutes
from tests.fake_vllm.threads import Served

KEY, HEADER, HOOK = "sk-of-the-server-123", "of-the-header-456", "of-the-hook-789"
PATIENCE_S = 60
SMALL = ["--prompts", "2", "--max-tokens", "8", "--every", "0.1s"]


@pytest.fixture(autouse=True)
def canaries_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The canaries are those of the small scenario."""
    monkeypatch.setattr(corpus, "CANARIES", "words")
    return here


def described(out: Path) -> RunDescription | None:
    """What ``run.json`` of the only run says, if there is one."""
    try:
        return read_description(out / "latest")
    except HistoryError:
        return None


@contextmanager
def meanwhile(holds: Callable[[], bool], act: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread as soon as something else holds."""

    def wait() -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds() and time.monotonic() < until:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def has_baseline(out: Path) -> Callable[[], bool]:
    """Whether the watch that writes there has a baseline."""

    def holds() -> bool:
        told = described(out)
        return told is not None and told.watched is not None and bool(told.watched.baselines)

    return holds


def cycle(endpoint: str) -> None:
    """Sleep and wake."""
    httpx.post(f"{endpoint}/sleep").raise_for_status()
    httpx.post(f"{endpoint}/wake_up").raise_for_status()


@pytest.mark.cell
@pytest.mark.parametrize(
    ("behaviours", "code"),
    [({}, ExitCode.CLEAN), ({Behaviour.GARBAGE_AFTER_WAKE: 2}, ExitCode.CORRUPT_OR_DEGRADED)],
    ids=["sound", "corrupt"],
)
def test_once_ends_with_the_exit_code_of_one_wake_up(
    here: Path, served: Served, behaviours: dict[Behaviour, int], code: ExitCode
) -> None:
    """`check` on the run directory judges alike."""
    endpoint = served.start(Misbehaviour(behaviours))
    with meanwhile(has_baseline(here / "reports"), lambda: cycle(endpoint)):
        assert call(["watch", "--endpoint", endpoint, "--once", *SMALL]) == code
    assert call(["check"]) == code
    told = described(here / "reports")
    assert told is not None
    assert told.watched is not None
    assert (told.watched.checks, told.watched.wake_ups, told.interrupted) == (1, 1, False)


@pytest.mark.cell
def test_no_secret_is_written(
    here: Path, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a key nor a header nor the webhook's address is in any file or line, where it fails as well."""
    endpoint = served.start(Misbehaviour({Behaviour.GARBAGE_AFTER_WAKE: 2}))
    monkeypatch.setenv("SLEEPWAKE_API_KEY", KEY)
    words = ["watch", "--endpoint", endpoint, "--once", "--header", f"X-Team={HEADER}"]
    words += ["--webhook", f"{endpoint}/{HOOK}", *SMALL]
    monkeypatch.setattr("sys.argv", ["sleepwake", *words])
    with meanwhile(has_baseline(here / "reports"), lambda: cycle(endpoint)):
        assert call(words) == ExitCode.CORRUPT_OR_DEGRADED
    said = "".join(capsys.readouterr())
    assert "the webhook was not told: answered 404" in said
    written = [path.read_bytes().decode(errors="replace") for path in here.rglob("*") if path.is_file()]
    assert len(written) > 3
    assert not [secret for secret in (KEY, HEADER, HOOK) for text in (said, *written) if secret in text]


@pytest.mark.cell
def test_a_watch_that_is_terminated_ends_in_order(here: Path, served: Served) -> None:
    """It answers while it watches; then its record, and the exit code, say that it was interrupted."""
    endpoint = served.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"

    def is_ready() -> bool:
        try:
            return httpx.get(f"http://{address}/ready").is_success
        except httpx.TransportError:
            return False

    answers: list[httpx.Response] = []

    def ask_and_terminate() -> None:
        answers.extend(httpx.get(f"http://{address}/{path}") for path in ("ready", "live", "metrics"))
        os.kill(os.getpid(), signal.SIGTERM)

    with meanwhile(is_ready, ask_and_terminate):
        assert call(["watch", "--endpoint", endpoint, "--listen", address, *SMALL]) == ExitCode.INTERRUPTED
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "sleepwake_watch_ready 1.0" in answers[-1].text
    told = described(here / "reports")
    assert told is not None
    assert told.interrupted
    assert told.finished_at is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "3"], "there are 2 canaries"),
        (["--every", "0s"], "--every: 0 is too little"),
        (["--listen", "nowhere", "--prompts", "2"], "is not HOST:PORT"),
        (["--baseline", "no-such-run", "--prompts", "2"], "no run here"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_a_matter_of_usage(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 before the server is asked, and no run directory."""
    assert call(["watch", "--endpoint", "http://127.0.0.1:1", *words]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not (here / "reports").exists()


@pytest.mark.parametrize("kept", ["/is_sleeping", "/metrics"])
def test_what_is_kept_from_a_watch_is_told_at_once(
    served: Served, kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy that lets nobody look is no server that does not answer."""

    async def refuse(*_: object) -> Response:
        return PlainTextResponse("no", status_code=403)

    routes = {"/is_sleeping": DevelopmentRoutes, "/metrics": OpenAiRoutes}
    monkeypatch.setattr(routes[kept], f"_{kept[1:]}", refuse)
    assert call(["watch", "--endpoint", served.start(), *SMALL]) == ExitCode.INFRASTRUCTURE
    assert kept in capsys.readouterr().err


def test_what_is_no_vllm_is_told_at_once(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is waited for that waiting would not change."""
    endpoint = f"{served.start()}/nothing"
    assert call(["watch", "--endpoint", endpoint, *SMALL]) == ExitCode.INFRASTRUCTURE
    assert "there is nothing at this address" in capsys.readouterr().err


def test_a_server_that_guards_its_requests_alone_is_refused_as_one_that_wants_a_key(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """With vLLM's --api-key all but /v1 answers everybody, so that its state alone says nothing of it."""
    endpoint = served.start(Misbehaviour({Behaviour.WANTS_KEY: 0}))
    assert call(["watch", "--endpoint", endpoint, *SMALL]) == ExitCode.INFRASTRUCTURE
    assert "/v1/models: answers 401: it wants a key" in capsys.readouterr().err
