"""What must hold for every recording, whatever happened in it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.check import judge
from harness.check.result import Verdict
from harness.history.events import Event
from harness.history.packed_logprobs import Logprobs
from harness.history.passes import Answer
from harness.history.recording import Recording, gather
from tests.check.stories import (
    VOCABULARY,
    Change,
    Story,
    empty,
    failing,
    garbage,
    loop,
    no_number,
    shifted,
    stop_after,
    updated,
)
from tests.check.strategies import clean_stories
from tests.trying import tries

CHANGES: list[Change] = [
    garbage(),
    garbage(9),
    loop(4),
    loop(2, period=3),
    empty,
    stop_after(5),
    shifted(),
    no_number(float("nan")),
    no_number(float("-inf")),
    updated(logprobs=None),
    updated(token_ids=()),
    updated(system_fingerprint="other"),
    updated(cached_tokens=16),
    failing("timeout"),
    failing("http", 500),
]


@st.composite
def eventful_stories(draw: st.DrawFn) -> Story:
    """Stories in which anything may happen to any answer."""
    story = Story(prompts=draw(st.integers(1, 4)), prefix_caching=draw(st.booleans()))
    changes = st.dictionaries(st.sampled_from(story.names), st.sampled_from(CHANGES), max_size=2)
    nothing: st.SearchStrategy[dict[str, Change]] = st.just({})
    seldom = st.one_of(nothing, nothing, changes)
    story.baseline(draw(seldom)).null(draw(seldom))
    for number in range(1, draw(st.integers(1, 2)) + 1):
        story.sleep(draw(st.sampled_from([0, 1, 2])), keeps_cache=draw(st.booleans())).wake()
        story.probe(number, warm=draw(changes), cold=draw(changes))
    return story.finish()


@tries(60)
@given(clean_stories())
def test_equal_answers_are_clean(story: Story) -> None:
    """A complete recording in which every answer equals its baseline is clean."""
    assert judge(story.recording()).verdict is Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_one_other_token_is_never_clean(story: Story, data: st.DataObject) -> None:
    """Whichever answer it is in, held-out prompts included, one changed token is noticed."""
    index, answer = data.draw(st.sampled_from(answers_of(story)))
    position = data.draw(st.integers(0, len(answer.token_ids) - 1))
    token = data.draw(st.integers(0, VOCABULARY - 1).filter(lambda t: t != answer.token_ids[position]))
    tokens = (*answer.token_ids[:position], token, *answer.token_ids[position + 1 :])
    assert verdict_with(story, index, answer.model_copy(update={"token_ids": tokens})) is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_one_token_more_or_less_is_never_clean(story: Story, data: st.DataObject) -> None:
    """A lost or an added token is noticed in every answer."""
    index, answer = data.draw(st.sampled_from(answers_of(story)))
    tokens = data.draw(st.sampled_from([answer.token_ids[:-1], answer.token_ids[1:], (*answer.token_ids, 7)]))
    assert verdict_with(story, index, answer.model_copy(update={"token_ids": tokens})) is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_one_other_logprob_is_never_clean(story: Story, data: st.DataObject) -> None:
    """Whichever log-probability of whichever compared answer is changed, before or after the transition."""
    index, answer = data.draw(st.sampled_from(answers_of(story, held_out=False)))
    change = data.draw(st.sampled_from([-0.1, -2.0]))
    assert verdict_with(story, index, with_one_value(answer, data, change)) is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_a_rounding_error_is_clean(story: Story, data: st.DataObject) -> None:
    """The last bit of a float32 changes with every batch: it says nothing about the engine."""
    index, answer = data.draw(st.sampled_from(answers_of(story)))
    assert verdict_with(story, index, with_one_value(answer, data, None)) is Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_one_other_candidate_is_never_clean(story: Story, data: st.DataObject) -> None:
    """A candidate that is lost although a less likely one is listed is noticed as well as another value."""
    index, answer = data.draw(st.sampled_from(answers_of(story, held_out=False)))
    assert answer.logprobs is not None
    ids = answer.logprobs.top_ids.copy()
    row, column = data.draw(st.tuples(st.integers(0, len(ids) - 1), st.integers(0, ids.shape[1] - 2)))
    ids[row, column] = 1
    logprobs = Logprobs.pack(
        chosen=answer.logprobs.chosen, top_ids=ids, top_values=answer.logprobs.top_values
    )
    assert verdict_with(story, index, answer.model_copy(update={"logprobs": logprobs})) is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_another_finish_reason_is_never_clean(story: Story, data: st.DataObject) -> None:
    """Whichever answer ends for another reason."""
    index, answer = data.draw(st.sampled_from(answers_of(story)))
    reasons = st.sampled_from(["stop", "length", "abort", "error", "repetition", None])
    other = data.draw(reasons.filter(lambda reason: reason != answer.finish_reason))
    held_out = answer.prompt not in story.names
    if held_out and other == "repetition":
        other = "abort"  # nothing speaks against a repetition that is never compared
    assert verdict_with(story, index, answer.model_copy(update={"finish_reason": other})) is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_a_lost_answer_is_never_clean(story: Story, data: st.DataObject) -> None:
    """An answer that was taken out of the recording is missed."""
    index, _ = data.draw(st.sampled_from(answers_of(story, held_out=False)))
    assert judge(gather(story.events[:index] + story.events[index + 1 :])).verdict is not Verdict.CLEAN


@tries(60)
@given(clean_stories(), st.data())
def test_a_cut_recording_is_never_clean(story: Story, data: st.DataObject) -> None:
    """Wherever a recording breaks off, what is left of it is judged, and never called clean."""
    length = data.draw(st.integers(1, len(story.events) - 1))
    assert judge(gather(story.events[:length])).verdict is Verdict.INCONCLUSIVE


@tries(40)
@given(eventful_stories(), st.data())
def test_a_cut_recording_never_says_more(story: Story, data: st.DataObject) -> None:
    """Breaking off can hide damage but neither invents any nor makes a cell clean."""
    length = data.draw(st.integers(1, len(story.events) - 1))
    whole, part = judge(story.recording()).verdict, judge(gather(story.events[:length])).verdict
    assert part is not Verdict.CLEAN
    assert part is not Verdict.CORRUPT or whole is Verdict.CORRUPT


@tries(40)
@given(eventful_stories(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(story: Story, random: Random) -> None:
    """Answers of one pass arrive in any order; the judgement is the same to the last word."""
    recording = story.recording()
    assert judge(shuffled(recording, random)) == judge(recording)


@tries(40)
@given(eventful_stories())
def test_every_verdict_is_complete(story: Story) -> None:
    """Corrupt and degraded cells have a cause, clean ones a bound, all a reason, and all survive JSON."""
    result = judge(story.recording())
    assert result.reason
    assert (result.cause is not None) == (result.verdict in {Verdict.CORRUPT, Verdict.DEGRADED})
    assert (result.witness is not None) == (result.verdict in {Verdict.CORRUPT, Verdict.DEGRADED})
    assert (result.bound is not None) == (result.verdict is Verdict.CLEAN)
    assert type(result).model_validate_json(result.model_dump_json()) == result


def with_one_value(answer: Answer, data: st.DataObject, change: float | None) -> Answer:
    """Change one log-probability by ``change`` nat, or by the least a float32 can change."""
    assert answer.logprobs is not None
    arrays = {"chosen": answer.logprobs.chosen.copy(), "top_values": answer.logprobs.top_values.copy()}
    array = arrays[data.draw(st.sampled_from(sorted(arrays)))]
    place = data.draw(st.integers(0, array.size - 1))
    old = array.flat[place]
    array.flat[place] = np.nextafter(old, np.float32(-100)) if change is None else old + np.float32(change)
    logprobs = Logprobs.pack(
        chosen=arrays["chosen"], top_ids=answer.logprobs.top_ids, top_values=arrays["top_values"]
    )
    return answer.model_copy(update={"logprobs": logprobs})


def answers_of(story: Story, *, held_out: bool = True) -> list[tuple[int, Answer]]:
    """Every answer of a story with its place among the events; those to held-out prompts only if asked."""
    return [
        (index, event)
        for index, event in enumerate(story.events)
        if isinstance(event, Answer) and (held_out or event.prompt in story.names)
    ]


def verdict_with(story: Story, index: int, event: Event) -> Verdict | None:
    """The verdict when one event of a story is replaced."""
    return judge(gather([*story.events[:index], event, *story.events[index + 1 :]])).verdict


def shuffled(recording: Recording, random: Random) -> Recording:
    """The same recording with the answers of every pass in another order."""

    def shuffle(answers: dict[str, Answer]) -> dict[str, Answer]:
        names = list(answers)
        random.shuffle(names)
        return {name: answers[name] for name in names}

    passes = tuple(replace(each, answers=shuffle(dict(each.answers))) for each in recording.passes)
    return replace(recording, passes=passes)
