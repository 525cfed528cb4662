"""What a watch answers over HTTP, and tells a webhook."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.check.result import Cause, CellResult, Verdict
from harness.errors import UsageError
from harness.watch.app import create_app, listener
from harness.watch.noticing import NOTHING, Happening
from harness.watch.status import Status
from harness.watch.webhook import Webhook, is_news

pytestmark = pytest.mark.anyio


def result(verdict: Verdict | None, cause: Cause | None = None) -> CellResult:
    """A judgement."""
    return CellResult(
        cell="watch.wake-000001", scenario="watch", arm="a", verdict=verdict, cause=cause, reason="because"
    )


@pytest.fixture
def status() -> Status:
    """A watch with a baseline, over a server that is awake."""
    return Status(has_baseline=True)


@pytest.fixture
async def client(status: Status) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the application, without a socket."""
    transport = httpx.ASGITransport(create_app(status))
    async with httpx.AsyncClient(transport=transport, base_url="http://watch") as client:
        yield client


async def values(client: httpx.AsyncClient) -> dict[str, float]:
    """What ``/metrics`` tells, by name and verdict."""
    text = (await client.get("/metrics")).text
    return {
        sample.name.removeprefix("sleepwake_watch_") + sample.labels.get("verdict", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_ready_is_red_from_the_wake_up_to_its_judgement(
    client: httpx.AsyncClient, status: Status
) -> None:
    """503 as soon as something is noticed, with the reason; 200 once it was found sound, and only then."""

    async def ready() -> tuple[int, str]:
        answer = await client.get("/ready")
        return answer.status_code, answer.text.strip()

    assert await ready() == (200, "sound")
    status.rests = True
    assert await ready() == (503, "the engine rests")
    status.rests = False
    status.take_in(Happening(wake_ups=1), now=5.0)
    assert await ready() == (503, "not checked yet: wake-up")
    status.judged(result(Verdict.CORRUPT), now=6.0)
    status.pending = NOTHING
    assert await ready() == (503, "corrupt: because")
    status.judged(result(Verdict.INCONCLUSIVE), now=7.0)
    assert (await ready())[0] == 503
    status.judged(result(Verdict.CLEAN), now=8.0)
    assert await ready() == (200, "sound")
    status.answers = False
    assert await ready() == (503, "the server does not answer")
    status.answers, status.has_baseline = True, False
    assert await ready() == (503, "there is no baseline yet")


async def test_live_says_only_that_the_watch_goes_on(client: httpx.AsyncClient, status: Status) -> None:
    """A server that is damaged or gone is no reason to start the watch anew."""
    status.answers = False
    assert (await client.get("/live")).status_code == 200


async def test_metrics_tell_what_was_noticed_judged_and_spent(
    client: httpx.AsyncClient, status: Status
) -> None:
    """Every verdict has its series from the start; times are there once they are known."""
    before = await values(client)
    assert before["checks_totalcorrupt"] == 0
    assert "last_wake_up_timestamp_seconds" not in before
    status.take_in(Happening(wake_ups=2, restarted=True, adapters_added=frozenset("ab")), now=5.0)
    status.judged(result(Verdict.CORRUPT), now=6.0)
    status.tokens, status.seconds, status.noise_nat = 700, 1.5, 0.25
    told = await values(client)
    expected = {
        "ready": 0,
        "wake_ups_total": 2,
        "restarts_total": 1,
        "adapter_changes_total": 2,
        "checks_totalcorrupt": 1,
        "last_verdictcorrupt": 1,
        "last_verdictclean": 0,
        "last_wake_up_timestamp_seconds": 5,
        "last_check_timestamp_seconds": 6,
        "tokens_total": 700,
        "seconds_total": 1.5,
        "noise_nat": 0.25,
    }
    assert {name: told[name] for name in expected} == expected


@pytest.mark.parametrize(
    "address", ["9109", "host", "127.0.0.1:port", "127.0.0.1:99999", "no.such.host.test:1"]
)
async def test_an_address_that_cannot_be_listened_at_is_refused(address: str) -> None:
    """Before anything is asked of the server."""
    with pytest.raises(UsageError, match="--listen"):
        listener(address)


async def test_a_port_that_is_taken_is_refused() -> None:
    """Somebody else listens there."""
    with listener("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="cannot listen"):
            listener(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("outcome", "before", "news"),
    [
        ("clean", None, False),
        ("clean", "clean", False),
        ("corrupt", None, True),
        ("corrupt", "corrupt", True),
        ("inconclusive", "clean", True),
        ("clean", "corrupt", True),
    ],
)
async def test_alarms_and_their_end_are_news(outcome: str, before: str | None, news: bool) -> None:  # noqa: FBT001 - a column
    """A sound wake-up after a sound one is not."""
    assert is_news(outcome, before) is news


async def test_a_webhook_is_told_what_happened_and_what_came_of_it() -> None:
    """Enough to act on, and nothing secret."""
    hook = Webhook(url="https://hooks.test/secret", endpoint="http://host", run="r")
    message = hook.message(result(Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), Happening(wake_ups=1))
    assert message.pop("at")
    assert message == {
        "endpoint": "http://host",
        "run": "r",
        "cell": "watch.wake-000001",
        "happened": "wake-up",
        "verdict": "corrupt",
        "cause": "stale prefix cache",
        "reason": "because",
    }


async def test_a_webhook_that_fails_is_told_without_its_address() -> None:
    """The address may be a secret."""
    hook = Webhook(url="http://127.0.0.1:1/secret", endpoint="http://host", run="r")
    failure = await hook.send(result(Verdict.CORRUPT), NOTHING)
    assert failure == "ConnectError"
