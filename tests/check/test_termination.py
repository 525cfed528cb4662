"""How answers end."""

from __future__ import annotations

import pytest

from harness.check import termination
from harness.check.result import Finding, Strength
from tests.check.stories import Change, Story, clean_story, empty, failing, garbage, loop, stop_after, updated


def finding_after(change: Change, *, prompt: str) -> Finding:
    """The only termination finding when ``change`` happens to the warm answer of ``prompt``."""
    [finding] = termination.check(Story().baseline().null().cycle(warm={prompt: change}).evidence())
    return finding


def test_equal_endings_have_no_finding() -> None:
    """A healthy story ends as its baseline does."""
    assert termination.check(clean_story().evidence()) == ()


def test_other_tokens_of_equal_number_have_no_finding() -> None:
    """What was said is not this checker's business."""
    assert termination.check(Story().baseline().null().cycle(warm={"p0": garbage(3)}).evidence()) == ()


# p0 runs to the limit of 24 tokens in the baseline, p2 stops after 12.
@pytest.mark.parametrize(
    ("prompt", "change", "message"),
    [
        ("p2", loop(3), "runs to the limit of 24 tokens; the baseline stopped after 12"),
        ("p0", stop_after(5), "stops after 5 tokens; the baseline ran to the limit of 24"),
        ("p2", stop_after(5), "ends after 5 tokens instead of 12"),
        ("p2", stop_after(13), "ends after 13 tokens instead of 12"),
        ("p2", empty, "empty answer (1 token); the baseline had 12 tokens"),
        ("p0", updated(text=" \n"), "empty answer (24 tokens); the baseline had 24 tokens"),
        ("p0", updated(finish_reason="abort"), "finish reason 'abort' instead of 'length'"),
        ("p2", updated(finish_reason=None), "finish reason None instead of 'stop'"),
    ],
)
def test_another_ending_is_told_in_words(prompt: str, change: Change, message: str) -> None:
    """Every kind of changed ending has its sentence."""
    finding = finding_after(change, prompt=prompt)
    assert finding.message == f"{prompt}, cycle 1, warm: {message}"
    assert (finding.checker, finding.prompt, finding.cycle) == ("termination", prompt, 1)
    assert finding.strength is Strength.PROOF


def test_the_evidence_has_both_endings() -> None:
    """Lengths and finish reasons of both sides are kept."""
    assert finding_after(loop(3), prompt="p2").evidence == {
        "baseline_tokens": 12,
        "tokens": 24,
        "baseline_finish_reason": "stop",
        "finish_reason": "length",
    }


def test_a_request_that_never_returns_is_proof() -> None:
    """The baseline answered it in time, so the engine has changed, whatever the noise is."""
    story = Story().baseline().cycle(warm={"p0": failing("timeout")})
    [finding] = termination.check(story.evidence())
    assert finding.message == "p0, cycle 1, warm: no answer within 180 s"
    assert finding.evidence == {"seconds": 180.0}
    assert finding.strength is Strength.PROOF


def test_a_request_that_never_returned_is_only_a_hint() -> None:
    """A prompt the baseline could not answer either says nothing about the transition."""
    story = Story().baseline({"p0": failing("timeout")}).cycle(warm={"p0": failing("timeout")})
    [finding] = termination.check(story.evidence())
    assert finding.strength is Strength.HINT


def test_other_failures_are_left_to_the_protocol() -> None:
    """One failure is not reported twice."""
    assert (
        termination.check(Story().baseline().null().cycle(warm={"p0": failing("http", 500)}).evidence()) == ()
    )


def test_noise_makes_another_ending_a_hint() -> None:
    """Where endings differ without a transition, one of them proves nothing."""
    story = Story().baseline().null({"p0": garbage(3)}).cycle(warm={"p2": loop(3)})
    [finding] = termination.check(story.evidence())
    assert finding.strength is Strength.HINT
