"""What a busy machine leaves of a slow engine: nothing that anybody could be blamed for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.check.result import Cause, CellResult, Verdict
from harness.check.timing import machine_load
from harness.history.events import Event, MachineLoad, ServerReady
from harness.history.passes import PassStarted, Role
from tests.check.stories import Change, Story, updated


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What others took of two cores while passes of a role lasted, and how long our group was held back."""

    before: float = 0.0
    judged: float = 0.0
    held_back_before: float | None = None
    held_back_judged: float | None = None

    def load(self, start: PassStarted) -> MachineLoad:
        """What is recorded of ten seconds of one pass."""
        is_judged = start.role is Role.AFTER
        share = self.judged if is_judged else self.before
        return MachineLoad(
            t=start.t,
            step=start.step,
            pass_number=start.number,
            seconds=10.0,
            cores=2,
            busy_seconds=12.0 + 20 * share,
            own_seconds=2.0,
            engine_seconds=10.0,
            throttled_seconds=self.held_back_judged if is_judged else self.held_back_before,
        )


def lasting(seconds: float) -> dict[str, Change]:
    """All answers take so long."""
    return dict.fromkeys(["p0", "p1", "p2", "p3"], updated(seconds=seconds))


def on(machine: Machine, *, judged: float = 5.0) -> CellResult:
    """The judgement of an engine whose judged answers take so long, on this machine."""
    story = Story().baseline().null().cycle(1, warm=lasting(judged), cold=lasting(judged))
    for event in tuple(story.events):
        if isinstance(event, PassStarted):
            story.tell(machine.load(event))
    return story.judged()


def test_a_slow_engine_on_an_idle_machine_is_degraded() -> None:
    """What little others did explains nothing."""
    result = on(Machine(before=0.02, judged=0.09))
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.SPEED)


@pytest.mark.parametrize("machine", [Machine(judged=0.34), Machine(before=0.34)])
def test_a_slow_engine_on_a_busy_machine_is_inconclusive(machine: Machine) -> None:
    """Whether it was busy while answers were judged or while those were timed that they are held against."""
    result = on(machine)
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None)
    assert "a token takes 208 ms in the fastest pass after the transition" in result.reason
    assert f"other processes used {machine.judged:.0%} of the machine's processors" in result.reason
    assert f"{machine.before:.0%} while what it is held against was (10% leave times alone)" in result.reason


def test_no_slowness_under_load_leaves_the_answers_verdict() -> None:
    """The remark says with how much load it was judged."""
    result = on(Machine(before=0.2, judged=0.34), judged=1.0)
    assert result.verdict is Verdict.CLEAN
    assert result.speed.startswith(
        "other processes used 34% of the machine's processors while answers were judged, 20% before"
    )


def test_being_held_back_more_than_before_explains_slowness() -> None:
    """A control group that is held back all the time is as slow all the time."""
    result = on(Machine(held_back_before=1.0, held_back_judged=6.0))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "its control group was held back for 60% of the time then, and for 10% before" in result.reason
    assert on(Machine(held_back_before=6.0, held_back_judged=6.0)).verdict is Verdict.DEGRADED


def test_old_histories_are_judged_as_ever() -> None:
    """They do not tell how busy the machine was."""
    result = Story().baseline().null().cycle(1, warm=lasting(5.0), cold=lasting(5.0)).judged()
    assert result.verdict is Verdict.DEGRADED
    assert "processes" not in result.speed


def test_the_machine_of_an_attached_server_is_not_seen() -> None:
    """The remark says so."""

    def attached(event: Event) -> Event:
        return event.model_copy(update={"runtime": "attached"}) if isinstance(event, ServerReady) else event

    story = Story().baseline().null().cycle()
    story.events = [attached(event) for event in story.events]
    assert story.judged().speed.startswith("its machine is not seen, so how busy others kept it is not known")


def test_what_is_too_little_for_the_ticks_of_a_machine_evens_out() -> None:
    """One short time says less than nothing, the next as much too much: together it was nothing."""
    loads = [
        MachineLoad(
            t=1.0,
            step="1",
            seconds=0.1,
            cores=2,
            busy_seconds=busy,
            own_seconds=0.0,
            engine_seconds=0.1,
        )
        for busy in (0.08, 0.12)
    ]
    assert machine_load.Windows(tuple(loads)).others == pytest.approx(0.0)
    assert machine_load.Windows((loads[0],)).others == 0.0


def test_a_call_is_found_by_when_it_was_made() -> None:
    """What was measured around it, of the calls of its step."""
    story = Story().baseline().sleep().wake()
    sleep, wake = (call for call in story.recording().calls)
    load = MachineLoad(
        t=wake.t,
        step=wake.step,
        seconds=wake.seconds,
        cores=1,
        busy_seconds=0.05,
        own_seconds=0.0,
        engine_seconds=0.0,
    )
    recording = story.tell(load).recording()
    assert machine_load.of_calls(recording, [sleep]).others is None
    assert machine_load.of_calls(recording, [wake]).others == pytest.approx(0.5)
