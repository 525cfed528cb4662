"""What the line about speed says of what was judged, and what would not have shown."""

from __future__ import annotations

from harness.check.checkers.speed import told
from harness.history.events import FirstTokensTimed, HarnessStopped
from tests.check.stories import Change, Story, clean_story, updated


def test_it_says_what_would_not_have_shown() -> None:
    """A first token only where it was timed."""
    assert told(clean_story().evidence()) == (
        "would go unnoticed: a token under 62 ms and calls that rise by less than 1 s"
    )
    story = Story().baseline()
    for cycle in (0, 1, 2):
        story = story.cycle(cycle) if cycle else story
        story.tell(FirstTokensTimed(t=story.now(), step="1", prompt="p0", seconds=(0.4,)))
    assert told(story.evidence()) == (
        "would go unnoticed: a token under 62 ms, a first token under 0.60 s "
        "and calls that rise by less than 1 s"
    )


def test_it_says_why_nothing_is_judged() -> None:
    """Passes that are too short, and too few that nobody was stopped in."""
    quick: dict[str, Change] = dict.fromkeys(["p0", "p1", "p2", "p3"], updated(seconds=0.01))
    story = Story().baseline(quick).null(quick).cycle(1, warm=quick, cold=quick)
    assert told(story.evidence()) == (
        "a token's time is not judged, because the passes after the transition last less than 1 s together"
    )
    story = clean_story(cycles=1)
    story.tell(HarnessStopped(t=story.now(), seconds=9.0))
    assert told(story.evidence()).endswith("a token's time is not judged, because too few times are left")


def test_where_nothing_was_judged_there_is_nothing_to_say() -> None:
    """The script has not come to a probe after a transition."""
    assert told(Story().baseline().null().evidence()) == ""
