"""Requests in flight: each ends exactly once, in time, and as the script expects."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.checkers.conservation import ON_ITS_WAY_S, check
from harness.check.result import Cause, Finding, Strength, Verdict
from harness.history.event_base import CallFailure
from harness.history.events import FirstTokenMissing
from harness.history.observations import Call, Observation, StepStarted
from harness.history.passes import Answer, RequestEnded, RequestRunning, RequestStarted
from tests.check.stories import Change, Story, garbage
from tests.history.begun import step_started

NUMBER = 1


def undisturbed(story: Story) -> Answer:
    """The baseline's first answer."""
    return next(event for event in story.events if isinstance(event, Answer))


def story(
    *ends: RequestEnded, expect: str = "same", early: bool = False, null: dict[str, Change] | None = None
) -> Story:
    """One request in flight across a sleep, ended by each of ``ends``; ``early`` before the sleep."""
    told = Story().baseline().null(null)
    step(told, "start_requests")
    told.tell(RequestStarted(t=told.now(), number=NUMBER, step="start_requests", group="held", prompt="p0"))
    told.tell(RequestRunning(t=told.now(), number=NUMBER))
    if early:
        tell(told, ends)
    told.sleep().wake()
    step(told, "finish_requests", expect=expect)
    if not early:
        tell(told, ends)
    return told.probe()


def alone(kind: str, *, before: bool = False) -> Story:
    """A request for one token that is alone, and fails, after a sleep or ``before`` it already."""
    told = Story().baseline().null()
    failure = CallFailure.model_validate({"kind": kind, "message": "nothing came"})
    for due in (before, True):
        if due:
            told.tell(FirstTokenMissing(t=told.now(), step="9", prompt="p0", seconds=10.0, failure=failure))
        if due is before:
            told.sleep().wake().probe()
    return told


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [("hang", Verdict.CORRUPT), ("http", Verdict.CORRUPT), ("timeout", Verdict.INCONCLUSIVE)],
)
def test_a_request_that_is_lost_when_alone_counts(kind: str, verdict: Verdict) -> None:
    """One that is only late may come from a slow engine: then nothing is decided, and that is said."""
    result = alone(kind).judged()
    assert result.verdict is verdict
    assert "p0, asked for one token alone" in result.reason


def test_a_request_that_was_lost_before_the_sleep_already_accuses_nobody() -> None:
    """Whatever loses it has nothing to do with sleep."""
    assert check(alone("hang", before=True).evidence()) == ()


def step(told: Story, action: str, **options: str) -> None:
    """A step about the requests."""
    told.tell(
        step_started(t=told.now(), step=action, action=action, options={"name": "held", **options}, cycle=1)
    )


def tell(told: Story, ends: tuple[RequestEnded, ...]) -> None:
    """Tell the ends, now."""
    for end in ends:
        told.tell(end.model_copy(update={"t": told.now()}))


def end(reason: str | None = "same", *, tokens: int | None = None, **changes: object) -> RequestEnded:
    """The undisturbed answer's end, or one with another finish reason or only the first tokens."""
    answer = undisturbed(Story().baseline())
    assert answer.finish_reason is not None
    reasons = () if reason is None else (answer.finish_reason if reason == "same" else reason,)
    return RequestEnded.model_validate(
        {
            "t": 0,
            "number": NUMBER,
            "token_ids": answer.token_ids[:tokens],
            "finish_reasons": reasons,
            "seconds": 1,
            **changes,
        }
    )


def found(told: Story) -> list[Finding]:
    """What is found about requests."""
    return [each for each in judge(told.finish().recording()).findings if each.checker == "conservation"]


def only(told: Story) -> tuple[str, Strength]:
    """The one finding there is: what it says of the request, and how much it weighs."""
    (finding,) = found(told)
    return finding.message.partition(": ")[2], finding.strength


def test_an_undisturbed_answer_is_no_finding() -> None:
    """A request that ends with the baseline's answer was carried through."""
    told = story(end())
    assert found(told) == []
    assert told.judged().verdict is Verdict.CLEAN


def test_a_request_without_an_end_is_lost() -> None:
    """The script ran to its end and nothing ever came: corrupt, scheduler or protocol."""
    told = story()
    assert only(told) == ("never ended", Strength.PROOF)
    result = judge(told.recording())
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.SCHEDULER)
    assert "in flight across sleep level 1" in result.reason


def test_no_verdict_on_requests_where_the_machine_got_in_the_way() -> None:
    """A server that dies takes its requests with it: that is not judged twice."""
    recording = story().fail().recording()
    assert judge(recording).verdict is None


def test_a_deadline_that_passes_is_a_failure_only_of_an_engine_that_stands_still() -> None:
    """What the client saw is told in its words."""
    failed = end(None, tokens=0, failure=CallFailure(kind="timeout", message="no end within 60 s"))
    assert only(story(failed)) == ("failed: no end within 60 s", Strength.HINT)
    hung = end(None, tokens=0, failure=CallFailure(kind="hang", message="the engine stood still"))
    assert only(story(hung)) == ("failed: the engine stood still", Strength.PROOF)


def test_requests_are_held_to_their_own_baseline() -> None:
    """An adapter's answers are not the base model's, and a finding says whom it asked."""
    told = Story().asking(reference="base").baseline().null().load_adapter()
    told.asking("x", reference="first").baseline({"p0": garbage()}).null({"p0": garbage()})
    step(told, "start_requests")
    started = RequestStarted(
        t=told.now(),
        number=NUMBER,
        step="start_requests",
        group="held",
        prompt="p0",
        adapter="x",
        reference="first",
    )
    told.tell(started)
    told.sleep().wake()
    step(told, "finish_requests", expect="same")
    tell(told, (end(),))
    (finding,) = found(told.probe(warm={"p0": garbage()}, cold={"p0": garbage()}))
    assert finding.message == (
        "p0 to the adapter x, in flight across sleep level 1: "
        "differs from the undisturbed answer from token 0 on"
    )


def test_nothing_ends_twice() -> None:
    """Two ends, two finish reasons, or tokens after the end."""
    assert only(story(end(), end())) == ("ended 2 times", Strength.PROOF)
    told = story(end(finish_reasons=("length", "abort")))
    assert only(told)[0] == "has 2 finish reasons: length, abort"
    assert only(story(end(tokens_after_end=3)))[0] == "got 3 tokens after its end"


def test_usage_counts_what_came() -> None:
    """A stream that lost a token on its way is found by the server's own count."""
    tokens = len(undisturbed(Story().baseline()).token_ids)
    told = story(end(completion_tokens=tokens + 1))
    assert only(told)[0] == f"got {tokens} tokens, but usage says {tokens + 1}"


def test_other_tokens_are_proof_where_noise_leaves_tokens_alone() -> None:
    """The first token that differs is named."""
    tokens = (*undisturbed(Story().baseline()).token_ids[:3], 999)
    told = story(end("length", token_ids=tokens))
    assert only(told) == ("differs from the undisturbed answer from token 3 on", Strength.PROOF)


def test_other_tokens_are_a_hint_where_noise_changes_tokens() -> None:
    """Where the same question is answered in two ways anyway, a third proves nothing."""
    tokens = (*undisturbed(Story().baseline()).token_ids[:3], 999)
    told = story(end("length", token_ids=tokens), null={"p0": garbage(3)})
    assert only(told)[1] is Strength.HINT


def test_aborting_is_an_end_only_where_it_is_expected() -> None:
    """The same end is right for a sleep that aborts and wrong for one that keeps."""
    aborted = end("abort", tokens=2)
    assert only(story(aborted, expect="same")) == ("was aborted after 2 tokens", Strength.PROOF)
    assert found(story(aborted, expect="aborted")) == []
    assert found(story(aborted, expect="ended")) == []


def test_what_runs_on_although_it_was_to_be_aborted_is_found() -> None:
    """Unless it had ended before the sleep, which then tested nothing."""
    assert only(story(end(), expect="aborted"))[0].startswith("should have been aborted but ended with")
    early = story(end(), expect="aborted", early=True)
    assert found(early) == []
    result = judge(early.recording())
    assert (result.verdict, "ended before" in result.reason) == (Verdict.INCONCLUSIVE, True)


def test_who_ends_while_the_engine_is_looked_at_cannot_be_aborted() -> None:
    """A step looks at the engine before it calls: what ends then, or a moment later, has won the race."""
    told = story(end(), expect="aborted")
    call = next(each for each in told.events if isinstance(each, Call) and each.path == "/sleep")
    ended = next(each for each in told.events if isinstance(each, RequestEnded))
    place = told.events.index(ended)
    told.events[place] = ended.model_copy(update={"t": call.t - call.seconds + 0.9 * ON_ITS_WAY_S})
    assert found(told) == []
    told.events[place] = ended.model_copy(update={"t": call.t - call.seconds + 1.1 * ON_ITS_WAY_S})
    assert only(told)[0].startswith("should have been aborted but ended with")


def test_an_aborted_answer_is_the_beginning_of_the_undisturbed_one() -> None:
    """Tokens that were sent before the abort must have been right."""
    told = story(end("abort", token_ids=(999,)), expect="aborted")
    assert only(told) == ("differs from the undisturbed answer from token 0 on", Strength.PROOF)


def test_an_end_without_a_reason_is_wrong_unless_nothing_had_begun() -> None:
    """The reason is told beside a token: a request that is aborted before the first has neither."""
    assert only(story(end(None)))[0] == "ended without a finish reason"
    told = story(end(None, tokens=0), expect="aborted")
    assert only(told) == ("ended without a finish reason", Strength.HINT)


def test_a_client_that_left_expects_nothing() -> None:
    """Only what came before is looked at."""
    assert found(story(end(None, tokens=2, client_left=True))) == []


def test_requests_the_engine_still_counts_are_found_after_a_probe() -> None:
    """The gauges rest until something is scheduled; then they must return to nothing."""
    told = story(end())
    told.tell(counting(told, 2))
    assert "still counts 2 requests" in found(told)[0].message
    again = story(end())
    again.tell(counting(again, 2)).tell(counting(again, 0))
    assert found(again) == []


def counting(told: Story, requests: int) -> Observation:
    """A look at the gauges after the last probe."""
    step = [event for event in told.events if isinstance(event, StepStarted)][-1]
    return Observation(
        t=told.now(),
        step=step.step,
        moment="after",
        is_sleeping=False,
        sleep_state="awake",
        resident_bytes=None,
        device_bytes=None,
        counters={"requests_running": requests, "requests_waiting": 0},
    )
