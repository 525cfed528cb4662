"""Requests beside the script, whatever happens to them and to it: each has one end, and none is left."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.drive import in_flight
from harness.drive.in_flight import NO_DEADLINE_S, Asked, RequestsInFlight
from harness.drive.recorder import Recorder
from harness.drive.standstill import Vigil, Watch
from harness.history.events import Event
from harness.history.passes import RequestEnded, RequestRunning, RequestStarted
from harness.vllm_api.calls import CallError
from harness.vllm_api.connection import Connection
from harness.vllm_api.generation import GenerationRequest
from harness.vllm_api.streaming import Streamed
from tests.trying import tries
from tests.virtual_time import VirtualTimeLoop

Fate: TypeAlias = Literal["never accepted", "accepted", "runs", "ends", "fails"]
"""How far a request comes by itself."""
End: TypeAlias = Literal["finish", "cancel", "neither"]
"""How the script treats a group of them."""

FATES: tuple[Fate, ...] = ("never accepted", "accepted", "runs", "ends", "fails")
PATIENCE_S = 100.0
WITHIN_S = 1000.0

groups = st.lists(
    st.tuples(st.lists(st.sampled_from(FATES), max_size=3), st.sampled_from(["finish", "cancel", "neither"])),
    max_size=4,
)


@dataclass
class Engine:
    """Streams as each request's fate has it, which its first token names."""

    connections: int = 0
    most: int = 0
    fates: list[Fate] = field(default_factory=list)

    async def stream(
        self,
        _: object,
        request: GenerationRequest,
        *,
        into: Streamed,
        on_accepted: Callable[[], None],
        on_first_token: Callable[[], None],
    ) -> None:
        """What :func:`harness.vllm_api.streaming.stream` would."""
        fate = self.fates[request.prompt_token_ids[0]]
        self.connections += 1
        try:
            await anyio.sleep(1)
            if fate == "fails":
                into.error = CallError(kind="connection", message="reset")
                return
            if fate != "never accepted":
                on_accepted()
            if fate in {"runs", "ends"}:
                on_first_token()
                into.token_ids.append(1)
            if fate == "ends":
                into.finish_reasons.append("stop")
                into.complete = True
                return
            await anyio.sleep_forever()
        finally:
            self.connections -= 1


def asked(number: int) -> Asked:
    """The request of this number."""
    request = GenerationRequest(prompt_token_ids=(number,), max_tokens=1, model="m", deadline_s=NO_DEADLINE_S)
    return Asked(prompt=f"p{number}", request=request, reference="baseline")


async def carried_out(
    told: list[tuple[list[Fate], End]], *, until_running: bool, stopped: bool = False
) -> tuple[Engine, list[Event]]:
    """Start each group and end it as told, or stop in the middle; return what was recorded."""
    engine, requests, events = Engine(), RequestsInFlight(), list[Event]()
    connection = Connection(base_url="", http=None, openai=None)  # type: ignore[arg-type]  # nothing is sent
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_flight, "stream", engine.stream)
        recorder = Recorder(Path(folder) / "history.jsonl", watcher=events.append)
        with anyio.CancelScope() as script:
            async with requests.allowed():
                for number, (fates, end) in enumerate(told):
                    first = len(engine.fates)
                    engine.fates += fates
                    await requests.start(
                        str(number),
                        [asked(first + place) for place in range(len(fates))],
                        connection=connection,
                        recorder=recorder,
                        step=str(number),
                        until_running=until_running,
                        patience_s=PATIENCE_S,
                    )
                    if stopped:
                        script.cancel()
                    if end == "finish":
                        watch = Watch(vigil=Vigil(limit_s=WITHIN_S))
                        await requests.finish(str(number), within_s=WITHIN_S, watch=watch)
                    elif end == "cancel":
                        await requests.cancel(str(number))
        recorder.close()
    return engine, events


def on_virtual_time(
    told: list[tuple[list[Fate], End]], *, until_running: bool = True, stopped: bool = False
) -> tuple[Engine, list[Event]]:
    """As :func:`carried_out`, without waiting for anything."""

    async def carry_out() -> tuple[Engine, list[Event]]:
        return await carried_out(told, until_running=until_running, stopped=stopped)

    return anyio.run(carry_out, backend_options={"loop_factory": VirtualTimeLoop})


def ends_of(events: list[Event]) -> dict[int, RequestEnded]:
    """The end of each request by its number."""
    return {event.number: event for event in events if isinstance(event, RequestEnded)}


@tries(40)
@given(groups, st.booleans(), st.booleans())
def test_every_request_has_one_beginning_and_one_end(
    told: list[tuple[list[Fate], End]],
    until_running: bool,  # noqa: FBT001 - drawn
    stopped: bool,  # noqa: FBT001 - drawn
) -> None:
    """Finished, cancelled, left alone or stopped half-way: nobody is lost, and no connection stays open."""
    engine, events = on_virtual_time(told, until_running=until_running, stopped=stopped)
    started = [event.number for event in events if isinstance(event, RequestStarted)]
    ended = Counter(event.number for event in events if isinstance(event, RequestEnded))
    assert started == list(range(1, len(started) + 1))
    assert ended == Counter(started)
    assert engine.connections == 0


@tries(40)
@given(groups)
def test_an_end_tells_how_it_came(told: list[tuple[list[Fate], End]]) -> None:
    """By itself, by a client that left, by patience that ran out, or by the end of the cell."""
    _, events = on_virtual_time(told)
    ends = iter(ends_of(events)[number] for number in sorted(ends_of(events)))
    for fates, how in told:
        for fate, end in zip(fates, ends, strict=False):
            by_itself = fate in {"ends", "fails"}
            assert end.client_left is (how == "cancel" and not by_itself)
            said = end.failure.message if end.failure else None
            if fate == "ends" or end.client_left:
                assert said is None
            elif fate == "fails":
                assert said == "reset"
            else:
                assert said == (
                    f"did not end within {WITHIN_S:g} s"
                    if how == "finish"
                    else "the cell ended before it did"
                )


@tries(40)
@given(groups)
def test_whoever_runs_is_recorded_before_the_script_goes_on(told: list[tuple[list[Fate], End]]) -> None:
    """A step that comes next finds them in flight, which the history can show."""
    engine, events = on_virtual_time(told)
    running = {event.number for event in events if isinstance(event, RequestRunning)}
    assert running == {
        number for number, fate in enumerate(engine.fates, start=1) if fate in {"runs", "ends"}
    }


def test_the_script_waits_for_those_that_can_still_begin() -> None:
    """Until the last has its first token; one that never has one holds it up no longer than its patience."""
    _, quick = on_virtual_time([(["runs", "runs"], "cancel")])
    _, slow = on_virtual_time([(["runs", "accepted"], "cancel")])
    _, sent = on_virtual_time([(["runs", "accepted"], "cancel")], until_running=False)
    last = [max(event.t for event in events) for events in (quick, slow, sent)]
    assert last[0] == pytest.approx(1, abs=0.1)
    assert last[1] == pytest.approx(PATIENCE_S, abs=0.1)
    assert last[2] == pytest.approx(1, abs=0.1)


def test_what_failed_before_it_began_holds_nothing_up() -> None:
    """Nobody waits for a beginning that cannot come."""
    _, events = on_virtual_time([(["fails", "fails"], "finish")])
    assert max(event.t for event in events) == pytest.approx(1, abs=0.1)


@pytest.mark.anyio
async def test_requests_outside_their_block_are_refused() -> None:
    """They could outlive the cell."""
    with pytest.raises(RuntimeError, match="only inside"):
        await RequestsInFlight().start(
            "r",
            [],
            connection=None,  # type: ignore[arg-type]  # it is not reached
            recorder=None,  # type: ignore[arg-type]  # nor this
            step="1",
            until_running=True,
            patience_s=1,
        )
