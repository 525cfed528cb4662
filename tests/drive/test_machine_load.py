"""How busy the machine was is recorded once for each pass and each lifecycle call."""

from __future__ import annotations

import anyio
import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.servers.base import MachineTimes
from tests.drive.conftest import Driver
from tests.fake_vllm.in_process import InProcessServer

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

SLOW = "slow:20,slow-after-wake:60"


def busy(monkeypatch: pytest.MonkeyPatch, *, others: float) -> None:
    """On every machine others use so much of its two cores all the time, and the engine half of one."""

    async def look(_: InProcessServer) -> MachineTimes:
        now = anyio.current_time()
        return MachineTimes(
            cores=2,
            busy_seconds=2 * others * now + now / 2,
            own_seconds=0.0,
            engine_seconds=now / 2,
            throttled_seconds=now / 4,
        )

    monkeypatch.setattr(InProcessServer, "look_at_machine", look)


async def test_every_pass_and_every_call_has_its_load(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One event each, over the time that it took."""
    busy(monkeypatch, others=0.25)
    recording = await driver.run(misbehave="slow:20")
    assert [load.pass_number for load in recording.loads if load.pass_number] == [
        each.number for each in recording.passes
    ]
    changing = [call for call in recording.calls if call.path in {"/sleep", "/wake_up"}]
    of_others = [load for load in recording.loads if load.pass_number is None]
    assert len(of_others) == len(changing) + len(recording.first_tokens)
    load = next(load for load in recording.loads if load.pass_number)
    assert load.others_seconds == pytest.approx(0.25 * 2 * load.seconds, rel=0.01)
    assert load.throttled_seconds == pytest.approx(load.seconds / 4, rel=0.01)


async def test_where_the_machine_is_not_seen_nothing_is_recorded(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the server is somebody else's."""

    async def unseen(_: InProcessServer) -> None:
        return None

    monkeypatch.setattr(InProcessServer, "look_at_machine", unseen)
    assert (await driver.run()).loads == ()


@pytest.mark.parametrize(("others", "verdict"), [(0.05, Verdict.DEGRADED), (0.4, Verdict.INCONCLUSIVE)])
async def test_a_slow_engine_on_a_busy_machine_is_inconclusive(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, others: float, verdict: Verdict
) -> None:
    """The same slowness is the engine's where nobody else was at work."""
    busy(monkeypatch, others=others)
    result = judge(await driver.run(misbehave=SLOW))
    assert result.verdict is verdict, result.reason
    assert result.cause is (Cause.SPEED if verdict is Verdict.DEGRADED else None)
