"""What answers that did not come in time say of an engine."""

from __future__ import annotations

from harness.check.result import CellResult, Verdict
from harness.history.event_base import CallFailure
from harness.history.events import HarnessStopped
from harness.history.passes import Control, Waited
from tests.check.stories import Story, failing

LATE = {"p0": failing("timeout")}


def waited(story: Story, number: int, *, still: float, tokens: int | None, cpu: float | None) -> Waited:
    """What was seen during a pass of which nothing came for a minute."""
    return Waited(
        t=story.now(),
        step="4",
        pass_number=number,
        seconds=60.0,
        counters_still_seconds=still,
        generated_tokens=tokens,
        cpu_seconds=cpu,
        would_take_seconds=60.0 * 96 / tokens if tokens else None,
    )


def late(
    *,
    still: float = 0.0,
    tokens: int | None = 0,
    cpu: float | None = None,
    asked_again: bool = False,
) -> CellResult:
    """One answer is late, of an engine that was seen to do so much meanwhile."""
    story = Story().baseline().null().sleep().wake().probe(1, warm=LATE)
    number = next(each.number for each in story.recording().passes if each.answers["p0"].failure)
    story.tell(waited(story, number, still=still, tokens=tokens, cpu=cpu))
    if asked_again:
        for control in (Control.SAME_AGAIN, Control.CANARY):
            story.control(control, LATE, asked=["p0"])
            story.tell(
                waited(story, story.recording().passes[-1].number, still=still, tokens=tokens, cpu=cpu)
            )
    return story.judged()


def test_a_slow_engine_is_told_what_deadline_it_takes() -> None:
    """Inconclusive: it went on, and the pace that was seen says how long it takes."""
    result = late(tokens=24)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "it went on, with 24 tokens in 60 s, and would take about 240 s for all" in result.reason


def test_an_engine_that_computes_without_a_token_is_not_stuck() -> None:
    """Its processes were at work."""
    result = late(cpu=58.0)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "its processes used 58 s of processor time" in result.reason


def test_counters_alone_prove_a_hang_only_if_nothing_else_is_answered_either() -> None:
    """Where processes cannot be seen, the same request and another one must stand still as well."""
    assert late(still=60.0).verdict is Verdict.INCONCLUSIVE
    assert late(still=60.0, asked_again=True).verdict is Verdict.CORRUPT
    assert late(still=5.0, asked_again=True).verdict is Verdict.INCONCLUSIVE
    assert late(still=60.0, tokens=None, asked_again=True).verdict is Verdict.INCONCLUSIVE


def test_an_engine_that_turns_in_circles_hangs_and_one_that_is_starved_does_not() -> None:
    """Neither counts anything; the one has a core all the time, the other next to nothing of it."""
    assert late(still=60.0, cpu=58.0).verdict is Verdict.INCONCLUSIVE
    assert late(still=60.0, cpu=58.0, asked_again=True).verdict is Verdict.CORRUPT
    assert late(still=60.0, cpu=2.0, asked_again=True).verdict is Verdict.INCONCLUSIVE


def test_older_histories_do_not_tell_a_hang_from_slowness() -> None:
    """They hold a deadline that passed and nothing else."""
    result = Story().baseline().null().cycle(warm=LATE).judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the recording does not tell whether it went on" in result.reason


def test_a_late_request_is_explained_by_a_stop() -> None:
    """Inconclusive as any late one is; the sentence says that nobody was there to read its answer."""
    story = Story().baseline().null().sleep().wake().probe(1, warm=LATE)
    began = next(each.start.t for each in story.recording().passes if each.answers["p0"].failure)
    story.tell(HarnessStopped(t=began + 2, seconds=40.0, suspended_seconds=39.0))
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "sleepwake itself was stopped for 40 s, for 39 s with its machine meanwhile" in result.reason


def test_a_call_without_an_answer_during_a_stop_accuses_nobody() -> None:
    """The engine may have done what it was asked to, and nobody was there to hear of it."""
    story = Story().baseline().null().sleep(unconfirmed=("POST /sleep: no answer within 60 s",))
    at = max(number for number, event in enumerate(story.events) if event.kind == "call")
    late = CallFailure(kind="timeout", message="no answer within 60 s")
    story.events[at] = story.events[at].model_copy(update={"failure": late, "status": None})
    story.wake().probe()
    assert story.judged().verdict is Verdict.DEGRADED
    story.tell(HarnessStopped(t=story.events[at].t, seconds=14.0))
    result = story.judged()
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "POST /sleep had no answer in time, and sleepwake itself was stopped for 14 s" in result.reason
