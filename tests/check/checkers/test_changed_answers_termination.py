"""How answers end."""

from __future__ import annotations

import pytest

from harness.check.result import Finding, Strength
from harness.history.passes import Answer
from tests.check.stories import Change, Story, clean_story, empty, failing, garbage, loop, stop_after, updated


def finding_after(change: Change, *, prompt: str) -> Finding:
    """The only termination finding when ``change`` happens to the warm answer of ``prompt``."""
    story = Story().baseline().null().cycle(warm={prompt: change}).asked_again({prompt: change})
    [finding] = story.findings("termination")
    return finding


def test_equal_endings_have_no_finding() -> None:
    """A healthy story ends as its baseline does."""
    assert clean_story().findings("termination") == []


def test_other_tokens_of_equal_number_have_no_finding() -> None:
    """What was said is not this checker's business."""
    assert Story().baseline().null().cycle(warm={"p0": garbage(3)}).findings("termination") == []


# p0 runs to the limit of 24 tokens in the baseline, p2 stops after 12.
@pytest.mark.parametrize(
    ("prompt", "change", "message"),
    [
        ("p2", loop(3), "runs to the limit of 24 tokens; the baseline stopped after 12"),
        ("p0", stop_after(5), "stops after 5 tokens; the baseline ran to the limit of 24"),
        ("p2", stop_after(5), "ends after 5 tokens instead of 12"),
        ("p2", stop_after(13), "ends after 13 tokens instead of 12"),
        ("p2", empty, "empty answer (1 token); the baseline had 12 tokens"),
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


def test_a_request_that_is_only_late_is_a_hint() -> None:
    """The machine may have been busy: time alone accuses nobody."""
    [finding] = Story().baseline().cycle(warm={"p0": failing("timeout")}).findings("termination")
    assert (finding.message, finding.strength) == (
        "p0, cycle 1, warm: no answer within 180 s",
        Strength.HINT,
    )


def test_a_request_over_which_the_engine_stood_still_is_proof() -> None:
    """The baseline answered it, so the engine has changed, whatever the noise is."""
    story = Story().baseline().cycle(warm={"p0": failing("hang")})
    [finding] = story.findings("termination")
    assert finding.message == "p0, cycle 1, warm: no answer within 180 s: no answer came"
    assert finding.evidence == {"seconds": 180.0}
    assert finding.strength is Strength.PROOF


def test_a_request_that_never_returned_is_only_a_hint() -> None:
    """A prompt the baseline could not answer either says nothing about the transition."""
    story = Story().baseline({"p0": failing()}).cycle(warm={"p0": failing()})
    [finding] = story.findings("termination")
    assert finding.strength is Strength.HINT


def test_other_failures_are_left_to_the_protocol() -> None:
    """One failure is not reported twice."""
    assert Story().baseline().null().cycle(warm={"p0": failing("http", 500)}).findings("termination") == []


def test_another_ending_is_a_hint_where_noise_was_not_measured() -> None:
    """Without a null transition, a longer answer with other tokens proves nothing."""
    [finding] = Story().baseline().cycle(warm={"p2": loop(3)}).findings("termination")
    assert finding.strength is Strength.HINT


def test_the_same_tokens_cannot_end_in_two_ways() -> None:
    """Whatever the noise is, how an answer ends follows from its tokens."""
    changed = {"p0": updated(finish_reason="repetition")}
    [finding] = Story().baseline().cycle(warm=changed).findings("termination")
    assert finding.strength is Strength.PROOF
    noisy = Story().baseline().null({"p1": garbage(3)}).cycle(warm=changed)
    [finding] = noisy.findings("termination")
    assert finding.strength is Strength.PROOF


def test_findings_lead_to_their_answers() -> None:
    """Checker, prompt, pass and cycle of an answer that ends otherwise, and of one that never came."""
    story = Story().baseline().null().cycle(2, cold={"p0": stop_after(5), "p1": failing("timeout")})
    number = story.recording().passes[-1].number
    found = [
        (each.checker, each.prompt, each.pass_number, each.cycle) for each in story.findings("termination")
    ]
    assert found == [("termination", "p0", number, 2), ("termination", "p1", number, 2)]


def test_a_blank_answer_is_empty() -> None:
    """White space alone is no text; where the baseline had none either, nothing is missing."""
    blank = updated(text=" \n")
    assert finding_after(blank_end, prompt="p2").message == (
        "p2, cycle 1, warm: empty answer (5 tokens); the baseline had 12 tokens"
    )
    usual = {"p2": blank}
    story = Story().baseline(usual).null(usual).sleep().wake().probe(1, warm={"p2": blank_end}, cold=usual)
    [finding] = story.findings("termination")
    assert finding.message == "p2, cycle 1, warm: ends after 5 tokens instead of 12"


def blank_end(answer: Answer) -> Answer:
    """The answer stops after five tokens of white space."""
    return stop_after(5)(answer).model_copy(update={"text": "  "})


def test_one_token_is_called_one_token() -> None:
    """Sentences count as people do."""
    assert finding_after(stop_after(1), prompt="p0").message.endswith(
        "stops after 1 token; the baseline ran to the limit of 24"
    )
    assert finding_after(stop_after(1), prompt="p2").message.endswith("ends after 1 token instead of 12")


def test_late_answers_are_told_one_by_one() -> None:
    """A request that failed otherwise does not hide the ones that never returned."""
    changes = {"p0": failing("http", 500), "p1": failing("timeout"), "p3": failing("timeout")}
    found = Story().baseline().cycle(warm=changes).findings("termination")
    assert [finding.prompt for finding in found] == ["p1", "p3"]
