"""Whether cycles leave memory behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.check.checkers import memory_use
from harness.check.result import Cause, Finding, Verdict
from harness.history.observations import Observation
from tests.check.stories import MIB, Story, clean_story


def findings(story: Story) -> list[Finding]:
    """What a story's cycles left behind."""
    return list(memory_use.left_behind(story.evidence()))


def asleep_with(*used: int, level: int = 1) -> Story:
    """Sleep and wake up so many times, holding so many MiB each time."""
    story = Story().baseline().null()
    for number, memory_used in enumerate(used, start=1):
        story.sleep(level, freed=(2000 - memory_used) * MIB).wake().probe(number)
    return story


@pytest.mark.parametrize(
    ("used", "found"),
    [
        ((500, 564, 628), 1),
        ((500, 564, 628, 692), 1),
        ((500, 564), 0),
        ((500, 532, 564), 0),
        ((500, 533, 566), 1),
        ((500, 600, 620), 0),
        ((500, 500, 500), 0),
        ((600, 550, 500), 0),
    ],
)
def test_what_each_cycle_leaves_behind_is_a_leak(used: tuple[int, ...], found: int) -> None:
    """Memory asleep that grows in every cycle, in three at least, is lost."""
    assert len(findings(asleep_with(*used))) == found


def test_a_leak_is_told_once() -> None:
    """One finding says how much each cycle leaves behind."""
    [finding] = findings(asleep_with(500, 564, 640))
    assert finding.message == "sleep level 1: each cycle leaves 64 MiB or more of memory behind, in 3 cycles"
    assert finding.evidence["growth_bytes"] == [64 * MIB, 76 * MIB]


def test_levels_are_not_mixed_in_a_leak() -> None:
    """Level 1 keeps a copy of the weights that level 2 does not."""
    story = Story().baseline().null()
    for level, freed in ((2, 1500), (1, 1400), (2, 1500), (1, 1300)):
        story.sleep(level, freed=freed * MIB).wake().probe()
    assert findings(story) == []


def test_a_leak_must_exceed_the_noise_of_the_measurement() -> None:
    """Growth no larger than what a null transition moved is no leak."""
    story = asleep_with(500, 600, 700)
    step = next(step for step in story.recording().steps if step.action == "null_transition")
    assert len(findings(story)) == 1
    index = next(
        i
        for i, event in enumerate(story.events)
        if event.kind == "observation" and event.step == step.step and event.moment == "after"
    )
    story.events[index] = story.events[index].model_copy(update={"resident_bytes": 2100 * MIB})
    assert memory_use.largest_null_change(story.evidence()) == 100 * MIB
    assert findings(story) == []


def test_a_leak_names_its_last_sleep() -> None:
    """The finding is about the sleep that showed it, with the least that had to be exceeded."""
    [finding] = findings(asleep_with(500, 564, 640))
    assert finding.evidence["floor_bytes"] == 32 * MIB
    assert finding.evidence["step"] == asleep_with(500, 564, 640).recording().steps[-3].step


def waking_with(*more: int, gpu: bool = False) -> Story:
    """Sleep and wake up so many times, each time with so many MiB more than before that sleep."""
    story, used = Story().baseline().null(), 2000
    for number, each in enumerate(more, start=1):
        step = story._begin("sleep", level=1, cycle=number)
        look(story, step, "before", used, gpu=gpu)
        story.call(step, "/sleep", {"level": "1"})
        look(story, step, "after", 500, gpu=gpu, asleep=True)
        story._warm = False
        step, used = story._begin("wake_up", cycle=number), used + each
        story.call(step, "/wake_up", {})
        look(story, step, "after", used, gpu=gpu)
        story.probe(number)
    return story


def look(story: Story, step: str, moment: str, used: int, *, gpu: bool = False, asleep: bool = False) -> None:
    """Tell an observation; on a GPU the host's memory stays as it is."""
    story.observe(step, moment, asleep=asleep, memory=(1000 if gpu else used) * MIB)
    if gpu:
        seen = story.events[-1]
        assert isinstance(seen, Observation)
        story.events[-1] = seen.model_copy(update={"device_bytes": used * MIB})


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ((0, 0, 0), 0),
        ((64, 0, 0), 0),
        ((300, 0, 0), 0),
        ((400, 0, 0), 1),
        ((64, 64, 0), 0),
        ((0, 33, 33), 1),
        ((0, 32, 32), 0),
        ((0, 0, 600), 1),
        ((-500, -500), 0),
    ],
)
@pytest.mark.parametrize("gpu", [False, True])
def test_memory_is_the_same_again_after_waking(more: tuple[int, ...], found: int, *, gpu: bool) -> None:
    """One cycle may settle an allocator; much of what sleep gave back, or two cycles, are too much."""
    assert len(findings(waking_with(*more, gpu=gpu))) == found


def test_what_is_left_after_waking_is_told() -> None:
    """The worst cycle, and in how many of them."""
    [finding] = findings(waking_with(0, 40, 70, 0, gpu=True))
    assert finding.message == (
        "up to 70 MiB more GPU memory is in use after waking up than before the sleep, in 2 of 4 cycles"
    )
    assert finding.evidence["left_bytes"] == [0, 40 * MIB, 70 * MIB, 0]
    assert finding.cycle == 3


def test_what_a_request_or_an_adapter_takes_is_nobodys() -> None:
    """Only the lifecycle itself may come between the two looks."""
    story = Story().baseline().null()
    for _ in range(3):
        story.sleep().load_adapter().wake()
        seen = story.events[-1]
        assert isinstance(seen, Observation)
        story.events[-1] = seen.model_copy(update={"resident_bytes": 3000 * MIB})
    assert findings(story) == []


def test_an_engine_that_wakes_in_parts_is_judged_when_it_is_awake() -> None:
    """Until then it still holds less."""
    story = Story().baseline().null().sleep().wake(asleep=True).wake()
    [cycle] = memory_use._cycles(story.evidence())
    assert cycle.woken.step == "5"


def test_a_cycle_that_leaves_memory_behind_is_degraded() -> None:
    """Answers hold, and the cause is memory_use."""
    result = waking_with(0, 64, 64).judged()
    assert (result.verdict, result.cause) == (Verdict.DEGRADED, Cause.MEMORY)


def test_a_healthy_story_leaves_nothing() -> None:
    """Asleep and awake memory stay where they are."""
    assert findings(clean_story()) == []


@pytest.mark.parametrize(("each", "found"), [(2, 0), (4, 1), (8, 1)])
def test_a_slow_leak_shows_over_twenty_cycles(each: int, found: int) -> None:
    """Less than a leak of one cycle, but for ever."""
    assert len(findings(asleep_with(*(500 + each * number for number in range(20))))) == found


def test_a_slow_leak_is_told_once() -> None:
    """With what a late cycle adds on average."""
    [finding] = findings(asleep_with(*(500 + 8 * number for number in range(20))))
    assert finding.message == "sleep level 1: each cycle leaves about 8 MiB of memory behind, in 20 cycles"


def test_an_allocator_that_settles_is_no_leak() -> None:
    """It grows fast at first and then no more."""
    settles = [500, 620, 680, 700, 710, 715, 718, 719, *[720] * 12]
    assert findings(asleep_with(*settles)) == []


HEALTHY = [-2, 20, 6, -8, 0, 2, 12, -12, 8, -8, 0, 16, -16, 40, -9, -4, 19, 10, 3]
"""MiB by which a healthy engine's memory moved from one sleep to the next, at 16 requests a time."""


def test_memory_that_comes_and_goes_is_no_leak() -> None:
    """What some cycle gives back, another may take; recorded on a healthy engine."""
    used = [500 + sum(HEALTHY[:cycle]) for cycle in range(len(HEALTHY) + 1)]
    assert findings(asleep_with(*used)) == []


@given(st.lists(st.integers(min_value=0, max_value=31), min_size=3, max_size=24))
def test_no_order_of_levels_within_the_smallest_leak_alarms(levels: list[int]) -> None:
    """Whatever an allocator does within it."""
    used = [level * MIB for level in levels]
    assert memory_use._growth(used, floor=memory_use.SMALLEST_LEAK, alpha=1e-3) == ""


@given(
    each=st.integers(min_value=33, max_value=4000),
    cycles=st.integers(min_value=memory_use.LEAST_CYCLES, max_value=24),
)
def test_every_steady_leak_alarms(each: int, cycles: int) -> None:
    """From three cycles on."""
    used = [cycle * each * MIB for cycle in range(cycles)]
    assert memory_use._growth(used, floor=memory_use.SMALLEST_LEAK, alpha=1e-3)
