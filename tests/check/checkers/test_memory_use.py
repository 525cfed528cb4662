"""Whether what is to give memory back does."""

from __future__ import annotations

import pytest

from harness.check.checkers import memory_use
from harness.check.result import Finding, Strength
from harness.history.observations import Observation
from tests.check.stories import MIB, Story, clean_story
from tests.history.begun import step_started


def findings(story: Story) -> list[Finding]:
    """The memory findings of a story."""
    return list(memory_use.not_given_back(story.evidence()))


def test_memory_that_falls_is_fine() -> None:
    """Half a gigabyte given back is a release."""
    assert findings(clean_story()) == []


def test_memory_that_stays_is_found() -> None:
    """An engine that says it sleeps and keeps its memory is degraded."""
    [finding] = findings(Story().baseline().null().sleep(freed=0).wake())
    assert finding.message == (
        "sleep level 1: memory in use changed by +0 MiB, but it should have fallen by more than 16 MiB"
    )
    assert finding.strength is Strength.PROOF
    assert finding.evidence == {
        "step": "3",
        "change_bytes": 0,
        "floor_bytes": 16 * MIB,
        "kv_cache_bytes": None,
    }
    assert finding.cycle == 0
    assert finding.checker == "memory"


@pytest.mark.parametrize(("freed", "found"), [(16 * MIB, 1), (16 * MIB + 1, 0), (-5 * MIB, 1)])
def test_what_an_idle_process_frees_is_no_release(freed: int, found: int) -> None:
    """The fall must exceed the smallest release that means something."""
    assert len(findings(Story().baseline().null().sleep(freed=freed))) == found


def test_noise_of_the_measurement_is_taken_from_the_null_transition() -> None:
    """A fall no larger than what the null transition moved is no release either."""
    story = Story().baseline()
    story.null()
    step = story.recording().steps[-1].step
    story.observe(step, "after", memory=1900 * MIB)
    assert memory_use.largest_null_change(story.evidence()) == 100 * MIB
    story.sleep(freed=90 * MIB)
    [finding] = findings(story)
    assert "by more than 100 MiB" in finding.message


def test_level_zero_need_not_free_anything() -> None:
    """Pausing the scheduler keeps all memory_use."""
    assert findings(Story().baseline().sleep(0, freed=0)) == []


def test_a_sleep_that_failed_need_not_free_anything() -> None:
    """A refused sleep is another checker's finding."""
    assert findings(Story().baseline().sleep(status=500, freed=0)) == []


def test_who_sleeps_already_need_not_free_anything() -> None:
    """A second sleep without a wake-up finds nothing left to give."""
    story = Story().baseline().sleep()
    story.events.pop()
    step = story._begin("sleep", level=2)
    story.observe(step, "before", asleep=True, memory=1500 * MIB)
    story.call(step, "/sleep", {"level": "2"})
    story.observe(step, "after", asleep=True, memory=1500 * MIB)
    assert findings(story) == []


def test_device_memory_counts_where_it_is_measured() -> None:
    """On a GPU the backed-up weights raise resident memory while device memory falls."""
    for device_after, found in ((1 * MIB, 0), (4000 * MIB, 1)):
        story = Story().baseline()
        step = story._begin("sleep", level=1)
        _observed(story, step, "before", resident=1000 * MIB, device=4000 * MIB)
        story.call(step, "/sleep", {"level": "1"})
        _observed(story, step, "after", resident=3000 * MIB if not found else 1 * MIB, device=device_after)
        assert len(findings(story)) == found


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_missing_measurement_proves_nothing(moment: str) -> None:
    """Memory is judged only where it was measured on both sides."""
    story = Story().baseline()
    step = story._begin("sleep", level=1)
    _observed(story, step, moment, resident=1000 * MIB, device=None)
    story.call(step, "/sleep", {"level": "1"})
    assert findings(story) == []
    _observed(story, step, "before" if moment == "after" else "after", resident=None, device=None)
    assert findings(story) == []


def _observed(story: Story, step: str, moment: str, *, resident: int | None, device: int | None) -> None:
    story.tell(
        Observation.model_validate(
            {
                "t": story.now(),
                "step": step,
                "moment": moment,
                "is_sleeping": None,
                "sleep_state": None,
                "resident_bytes": resident,
                "device_bytes": device,
            }
        )
    )


def configured(story: Story, *, kv_cache: int | None) -> Story:
    """Let the server tell the size of its KV cache."""
    cache_config = {} if kv_cache is None else {"kv_cache_memory_bytes": kv_cache}
    story.events[1] = story.events[1].model_copy(update={"configuration": {"cache_config": cache_config}})
    return story


@pytest.mark.parametrize(
    ("freed", "kv_cache", "found"),
    [
        (1000 * MIB, 1000 * MIB, 1),
        (1001 * MIB, 1000 * MIB, 1),
        (1256 * MIB, 1000 * MIB, 0),
        (500 * MIB, 1000 * MIB, 0),
        (1000 * MIB, None, 0),
    ],
)
def test_the_kv_cache_alone_is_not_enough(freed: int, kv_cache: int | None, found: int) -> None:
    """A sleep that gives back exactly the KV cache has kept the weights (vllm#32714)."""
    story = configured(Story().baseline().null().sleep(freed=freed), kv_cache=kv_cache)
    assert len(findings(story)) == found
    assert all(
        "the KV cache alone: the weights were not released" in each.message for each in findings(story)
    )


def test_a_measurement_of_another_kind_is_no_change() -> None:
    """The device's memory before and the process's after cannot be subtracted."""
    story = Story().baseline()
    step = story._begin("sleep", level=1)
    _observed(story, step, "before", resident=1000 * MIB, device=4000 * MIB)
    story.call(step, "/sleep", {"level": "1"})
    _observed(story, step, "after", resident=1000 * MIB, device=None)
    assert findings(story) == []


def test_the_first_look_before_and_the_last_one_after_count() -> None:
    """What was seen in between is on its way."""
    story = Story().baseline()
    step = story._begin("sleep", level=1)
    for moment, memory_used in (("before", 1000), ("before", 400), ("settled", 900), ("after", 990)):
        _observed(story, step, moment, resident=memory_used * MIB, device=None)
    story.call(step, "/sleep", {"level": "1"})
    [finding] = findings(story)
    assert finding.evidence["change_bytes"] == -10 * MIB


def test_the_kv_cache_must_match_closely() -> None:
    """Two mebibytes apart are two amounts."""
    for apart, found in ((2 * MIB - 1, 1), (2 * MIB, 0), (-2 * MIB + 1, 1), (-2 * MIB, 0)):
        story = Story().baseline().null().sleep(freed=1000 * MIB + apart)
        assert len(findings(configured(story, kv_cache=1000 * MIB))) == found


@pytest.mark.parametrize(
    "configuration",
    [None, [], {}, {"cache_config": None}, {"cache_config": {"kv_cache_memory_bytes": "auto"}}],
)
def test_a_configuration_that_tells_no_size_is_no_reason(configuration: object) -> None:
    """Whatever stands where the size should be."""
    story = Story().baseline().null().sleep(freed=1000 * MIB)
    story.events[1] = story.events[1].model_copy(update={"configuration": configuration})
    assert findings(story) == []


def test_a_sleep_knows_its_cycle() -> None:
    """A finding within a repetition leads to it."""
    story = Story().baseline()
    story.tell(step_started(t=story.now(), step="3.2/1", action="sleep", options={"level": 1}, cycle=2))
    story.observe("3.2/1", "before")
    story.call("3.2/1", "/sleep", {"level": "1"})
    story.observe("3.2/1", "after", asleep=True)
    [finding] = findings(story)
    assert (finding.cycle, finding.evidence["step"]) == (2, "3.2/1")


def test_memory_that_was_not_measured_did_not_move() -> None:
    """Without a null transition the smallest release is what counts."""
    assert memory_use.largest_null_change(Story().baseline().sleep().evidence()) == 0


def released(story: Story, *, freed: int, status: int = 200) -> Story:
    """Pause and let the engine give the KV cache's memory back."""
    step = story._begin("pause")
    story.call(step, "/pause", {})
    step = story._begin("release_kv_cache_memory")
    story.observe(step, "before", asleep=True)
    story.call(step, "/release_kv_cache_memory", {}, status=status)
    story.observe(step, "after", asleep=True, memory=2000 * MIB - freed)
    return story


@pytest.mark.parametrize(("freed", "found"), [(0, 1), (16 * MIB, 1), (16 * MIB + 1, 0), (800 * MIB, 0)])
def test_a_release_of_the_kv_cache_must_give_memory_back(freed: int, found: int) -> None:
    """An engine that is paused counts as sleeping, and has its memory all the same."""
    assert len(findings(released(Story().baseline().null(), freed=freed))) == found


def test_a_release_that_gave_nothing_is_told() -> None:
    """With what it had to exceed."""
    [finding] = findings(released(Story().baseline().null(), freed=0))
    assert finding.message == (
        "release kv cache memory: memory in use changed by +0 MiB, but it should have fallen by more "
        "than 16 MiB"
    )
    assert finding.evidence == {"step": "4", "change_bytes": 0, "floor_bytes": 16 * MIB}


def test_a_refused_release_need_not_give_anything() -> None:
    """The engine kept its memory, as it said."""
    assert findings(released(Story().baseline().null(), freed=0, status=500)) == []


def test_a_second_release_finds_nothing() -> None:
    """Until the engine wakes up there is nothing more to give."""
    story = released(released(Story().baseline().null(), freed=800 * MIB), freed=0)
    assert findings(story) == []
    assert len(findings(released(story.wake(), freed=0))) == 1


@pytest.mark.parametrize("path", ["/sleep", "/release_kv_cache_memory"])
def test_what_overlapped_may_have_taken_its_memory_again(path: str) -> None:
    """A wake-up that came last leaves memory as it was, and the sleep beside it did what it must."""
    story = Story().baseline().null()
    step = "c"
    story.tell(step_started(t=story.now(), step=step, action="concurrently", options={"calls": []}, cycle=0))
    story.observe(step, "before", asleep=False)
    story.call(step, path, {})
    story.call(step, "/wake_up", {})
    story.observe(step, "after", asleep=False)
    assert findings(story) == []
