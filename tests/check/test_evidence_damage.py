"""What is held against the answers, as far as the noise was measured."""

from __future__ import annotations

import pytest

from harness.check.checkers import CHECKERS, About
from harness.check.noise.limits import RESOLUTION
from harness.check.result import Finding, Strength
from tests.check.stories import Change, Story, both, flip, garbage, loop, nearly_tied, shifted, updated


def noisy(after: dict[str, Change]) -> Story:
    """A cell whose null answers to p0 lie off, four to a prompt."""
    story = Story(prefix_caching=False).baseline().null({"p0": shifted(0.05, 0)}, passes=2)
    return story.sleep().wake().probe(1, warm=after)


def damaged(story: Story) -> list[str]:
    """Prompts whose judged answers bear damage, with the cache condition of each."""
    return [f"{each.prompt.id} {each.reply.start.cache.value}" for each in story.evidence().damaged]


def told(story: Story) -> list[Finding]:
    """Everything the checkers of answers find."""
    evidence = story.evidence()
    return [found for each in CHECKERS if each.about is About.ANSWERS for found in each.find(evidence)]


def test_without_a_measure_of_noise_nothing_is_damaged() -> None:
    """Differences are told as hints, single answers speak for themselves, and float32 is assumed."""
    story = Story().baseline().cycle(1, warm={"p0": garbage()})
    evidence = story.evidence()
    assert evidence.calibration is None
    assert evidence.damaged == ()
    assert evidence.shows_in_single_answers
    assert evidence.resolution == RESOLUTION
    assert [(finding.checker, finding.strength) for finding in told(story)] == [("divergence", Strength.HINT)]


def test_without_a_measure_of_noise_only_equal_answers_have_healed() -> None:
    """A control's answer that differs in the least is not known to be the baseline's."""
    story = Story().baseline().cycle(1, warm={"p0": garbage(), "p1": shifted(1e-6)})
    evidence = story.evidence()
    assert evidence.healed(evidence.after) == 6
    assert evidence.healed(()) == 0


def test_a_quiet_recording_shows_single_answers() -> None:
    """Where nothing but rounding differed before, one answer is proof, and rounding has healed."""
    story = Story().baseline().null().cycle(1, warm={"p0": garbage(), "p1": shifted(1e-5)})
    evidence = story.evidence()
    assert evidence.shows_in_single_answers
    assert damaged(story) == ["p0 warm"]
    assert evidence.healed(evidence.after) == 7


def test_a_noisy_recording_shows_only_gross_answers() -> None:
    """Where answers differ by themselves, a single one says something only if it lies far off."""
    slight = noisy({"p1": shifted(0.1, 0)})
    assert not slight.evidence().shows_in_single_answers
    assert damaged(slight) == []
    gross = noisy({"p1": shifted(5.0, 0)})
    assert gross.evidence().shows_in_single_answers
    assert damaged(gross) == ["p1 warm"]


def test_a_noisy_recording_tells_only_of_damaged_answers() -> None:
    """Differences within the noise are not worth a sentence; what the damaged answer shows is a hint."""
    story = noisy({"p1": loop(4), "p2": shifted(0.03, 0)})
    found = [(finding.checker, finding.prompt, finding.strength) for finding in told(story)]
    assert found == [
        ("divergence", "p1", Strength.PROOF),
        ("divergence", "p1", Strength.HINT),
        ("repetition", "p1", Strength.HINT),
    ]


def test_a_quiet_recording_needs_no_statistics() -> None:
    """The difference itself is the proof once it has come again, and it is told once."""
    change = {"p1": garbage()}
    [finding] = told(Story().baseline().null().cycle(1, warm=change).asked_again(change))
    assert (finding.checker, finding.strength) == ("divergence", Strength.PROOF)
    assert finding.message.startswith("p1, cycle 1, warm: differs from token 0 on")


@pytest.mark.parametrize("null", [{}, {"p1": garbage(3)}])
def test_the_same_tokens_with_another_ending_are_damage(null: dict[str, Change]) -> None:
    """How an answer ends follows from its tokens, whatever the noise is."""
    story = Story().baseline().null(null).cycle(1, warm={"p0": updated(finish_reason="repetition")})
    assert damaged(story) == ["p0 warm"]


def test_other_tokens_may_end_otherwise() -> None:
    """After a near-tie that went the other way an answer may stop where its baseline ran on."""
    tie = nearly_tied(position=5, gap=5e-4)
    usual, flipped = {"p0": tie}, both(both(tie, flip(5)), updated(finish_reason="stop", stop_reason="END"))
    story = Story().baseline(usual).null(usual).sleep().wake().probe(1, warm={"p0": flipped}, cold=usual)
    assert damaged(story) == []
