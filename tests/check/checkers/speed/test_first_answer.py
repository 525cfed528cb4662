"""Whether the first answer after every wake-up comes late."""

from __future__ import annotations

from harness.check.checkers.speed.first_answer import slower_first_answers
from harness.history.events import HarnessStopped
from harness.history.passes import PassStarted
from tests.check.stories import Story, clean_story


def late(story: Story, *numbers: int, seconds: float = 3.0) -> Story:
    """Let these passes have begun so much earlier than they did."""
    story.events = [
        event.model_copy(update={"t": event.t - seconds})
        if isinstance(event, PassStarted) and event.number in numbers
        else event
        for event in story.events
    ]
    return story


def messages(story: Story) -> list[str]:
    """What is slow in a story."""
    return [each.message for each in slower_first_answers(story.evidence())]


def test_first_answers_that_come_late_after_every_wake_up_are_found() -> None:
    """They are held against a pass that computed as much; what follows them does not matter."""
    [message] = messages(late(clean_story(), 6, 8))
    assert message == (
        "the first answer comes 4.0 s after it is asked for, at the least of 2 wake-ups, "
        "and 1.0 s before the transition"
    )


def test_one_in_time_acquits() -> None:
    """So do passes that are not the first after a wake-up, a single wake-up, and less than half as long."""
    assert messages(clean_story()) == []
    assert messages(late(clean_story(), 6)) == []
    assert messages(late(clean_story(), 7, 9)) == []
    assert messages(late(clean_story(cycles=1), 6)) == []
    assert messages(late(clean_story(), 6, 8, seconds=0.45)) == []


def test_a_pass_before_that_came_as_late_acquits() -> None:
    """The last of the null transition was computed as well."""
    assert messages(late(clean_story(), 5, 6, 8)) == []


def test_nothing_is_said_where_the_harness_was_stopped() -> None:
    """It may have been there already when somebody was there to read it."""
    story = late(clean_story(), 6, 8)
    begun = next(each.start.t for each in story.recording().passes if each.number == 8)
    assert messages(story.tell(HarnessStopped(t=begun + 1, seconds=0.5))) == []
