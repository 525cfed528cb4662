"""When a cell's verdict is certain before its end."""

from __future__ import annotations

import pytest

from harness.check.result import Verdict
from harness.check.verdict import decided
from harness.history.events import CellShortened
from harness.history.passes import Control
from tests.check.stories import Story, clean_story, garbage, shifted

ALL = {name: garbage() for name in ("p0", "p1", "p2", "p3")}


def founding_bug(*, null: Story | None = None) -> Story:
    """Warm answers read blank blocks; fresh salts and a reset heal them."""
    story = (null or Story().baseline().null()).sleep(keeps_cache=True).wake().probe(1, warm=ALL)
    return (
        story.control(Control.FRESH_SALT).control(Control.UNSEEN_PROMPTS).control(Control.RESET_PREFIX_CACHE)
    )


def test_a_quiet_proof_with_its_cause_decides() -> None:
    """Nothing differed before, answers changed, the controls say why."""
    assert decided(founding_bug().recording())


def test_noise_never_decides() -> None:
    """Where damage has to be told from noise, each look would spend some of the error rate."""
    noisy = Story().baseline().null({"p0": shifted(0.3), "p1": garbage(3)})
    assert not decided(founding_bug(null=noisy).recording())


@pytest.mark.parametrize(
    "story",
    [
        clean_story(),
        Story().baseline().null(),
        Story().baseline(),
        Story().baseline().cycle(1, warm=ALL),
        Story().baseline().null().sleep(freed=0).wake().probe(),
    ],
    ids=["clean", "nothing judged", "no transition", "noise not measured", "degraded"],
)
def test_nothing_else_decides(story: Story) -> None:
    """A verdict that a later answer could still change is not certain."""
    assert not decided(story.recording())


def test_an_unknown_cause_is_asked_for_to_the_end() -> None:
    """Further cycles may tell what these controls could not."""
    story = Story().baseline().null().sleep(keeps_cache=True).wake().probe(1, warm=ALL)
    story.control(Control.FRESH_SALT, {"p3": garbage()})
    assert not decided(story.recording())


def test_further_cycles_change_neither_verdict_nor_cause() -> None:
    """What is left out would have said the same."""
    shortened, thorough = founding_bug(), founding_bug()
    for number in (2, 3):
        thorough.sleep(keeps_cache=True).wake().probe(number, warm=ALL)
    short, whole = shortened.judged(), thorough.judged()
    assert (short.verdict, short.cause) == (whole.verdict, whole.cause)


def test_what_was_left_out_is_told() -> None:
    """The judgement names the steps."""
    story = founding_bug()
    story.tell(CellShortened(t=story.now(), skipped=("3[2].1",)))
    result = story.judged()
    assert (result.verdict, result.skipped) == (Verdict.CORRUPT, ("3[2].1",))


def test_a_shortened_recording_is_never_clean() -> None:
    """A judgement that does not see the proof knows only a part of the script."""
    story = clean_story()
    story.tell(CellShortened(t=story.now(), skipped=("3[2].1",)))
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "--thorough" in result.reason
