"""What is made of replies and looks when calls overlap: on an engine that is a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from pydantic import TypeAdapter

from harness.drive.confirming import Outcome
from harness.drive.overlap import overlap
from harness.history.observations import Call, Observation
from harness.scenario.engine_state import ALL_TAGS, EngineState
from harness.scenario.steps.concurrently import Concurrently
from tests.drive.scripted_engine import Stage, stage

pytestmark = pytest.mark.anyio

GROUPS: TypeAdapter[Concurrently] = TypeAdapter(Concurrently)

SLEEP: dict[str, object] = {"sleep": {"level": 1}}
WAKE: dict[str, object] = {"wake_up": {}}
PAUSE: dict[str, object] = {"pause": {}}


@pytest.fixture
async def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """A session on an engine that does as it is told."""
    async with stage(tmp_path, monkeypatch) as staged:
        yield staged


async def make(on: Stage, written: Sequence[dict[str, object]]) -> Outcome:
    """Make calls that overlap."""
    return await overlap(on.session, GROUPS.validate_python({"concurrently": written}).concurrently)


async def test_the_order_that_is_seen_is_what_the_engine_is_like(on: Stage) -> None:
    """Both orders are possible before, and one is left after the look."""
    outcome = await make(on, [SLEEP, WAKE])
    assert outcome == Outcome()
    (state,) = on.session.states
    assert state in [EngineState(), EngineState().after_sleep(1)]
    assert [event.kind for event in on.events].count("call") == 2
    assert [event.moment for event in on.events if isinstance(event, Observation)] == ["before", "after"]


async def test_a_status_of_200_without_an_effect_in_any_order_is_told(on: Stage) -> None:
    """With the call that would explain it if it had done nothing."""
    on.engine.told["/sleep"] = lambda _: httpx.Response(200, json={})
    (words,) = (await make(on, [SLEEP, {"reset_prefix_cache": {}}])).unconfirmed
    assert words.startswith(
        "no order of the overlapping calls POST /sleep, POST /reset_prefix_cache explains what is seen: "
    )
    assert words.endswith(", as if POST /sleep, which answered 200, had done nothing")
    assert on.session.state.asleep == ALL_TAGS


async def test_a_refused_call_that_was_carried_out_is_told(on: Stage) -> None:
    """What is refused must change nothing."""
    on.session.state = on.engine.state = EngineState().after_sleep(1)

    def refuse(_: httpx.Request) -> httpx.Response:
        on.engine.state = EngineState()
        return httpx.Response(500, json={"error": {"message": "no"}})

    on.engine.told["/wake_up"] = refuse
    words = (await make(on, [WAKE, {"reset_prefix_cache": {}}])).unconfirmed
    assert words[0] == "POST /wake_up was refused: no; no order of the calls explains that"
    assert words[1].endswith(", as if POST /wake_up, which was refused, had been carried out")


async def test_what_must_be_refused_is_accused_once(on: Stage) -> None:
    """Whether it was carried out all the same nobody can say, and both is explained."""
    outcome = await make(on, [{"pause": {"must_fail": True}}, {"reset_prefix_cache": {}}])
    assert outcome.unconfirmed == ["POST /pause succeeded, but should have been refused"]


async def test_a_call_that_never_ends_is_told(on: Stage) -> None:
    """It had its deadline, and may have taken effect or not."""

    def never(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("nothing came")

    on.engine.told["/pause"] = never
    outcome = await make(on, [PAUSE, {"reset_prefix_cache": {}}])
    assert outcome.unconfirmed == ["POST /pause: no answer within 120 s"]
    (call,) = [event for event in on.events if isinstance(event, Call) and event.path == "/pause"]
    assert call.failure is not None
    assert call.failure.kind == "timeout"


async def test_an_engine_that_rests_in_every_order_is_not_asked(on: Stage) -> None:
    """Nobody waits for answers of an engine that the script may have put to sleep."""
    await make(on, [SLEEP, PAUSE])
    assert all(state.rests for state in on.session.states)
    assert not on.session.rests_on
