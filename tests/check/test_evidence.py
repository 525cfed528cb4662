"""Which answer is set beside which."""

from __future__ import annotations

from harness.check.answer_pair import AnswerPair
from harness.history.passes import Control, Role
from tests.check.stories import COLD, REHIT, WARM, Story, clean_story, failing, garbage, updated
from tests.history.begun import step_started


def references(comparisons: tuple[AnswerPair, ...]) -> list[tuple[str, str]]:
    """The cache condition of each p0 answer and of the baseline answer beside it."""
    return [
        (each.reply.start.cache.value, each.reference.start.cache.value)
        for each in comparisons
        if each.prompt.id == "p0"
    ]


def test_an_answer_computed_after_the_sleep_meets_the_first_warm_one() -> None:
    """After a sleep that emptied the cache, warm means computed, as the baseline's first pass was."""
    assert references(Story().baseline().cycle().evidence().after) == [("warm", "warm"), ("cold", "cold")]


def test_an_answer_from_the_cache_meets_the_rehit() -> None:
    """An answer with cached tokens is compared with the baseline's answer that had as many."""
    story = Story().baseline().sleep(keeps_cache=True).wake().probe()
    assert references(story.evidence().after) == [("warm", "rehit"), ("cold", "cold")]


def test_without_cached_tokens_the_pass_decides() -> None:
    """A server that does not tell cached tokens has its passes compared by name."""
    story = Story(tells_cached_tokens=False).baseline().sleep(keeps_cache=True).wake().probe()
    assert references(story.evidence().after) == [("warm", "warm"), ("cold", "cold")]


def test_another_concurrency_has_no_counterpart() -> None:
    """Batches of another size round differently: such answers are not compared."""
    story = Story().baseline().sleep().wake().probe(concurrency=8)
    assert story.evidence().after == ()
    assert len(story.evidence().unmatched) == 8


def test_a_failed_baseline_is_no_reference() -> None:
    """A prompt the baseline never answered has no counterpart."""
    evidence = Story().baseline({"p1": failing()}).cycle().evidence()
    assert {each.prompt.id for each in evidence.after} == {"p0", "p2", "p3"}
    assert {reply.answer.prompt for reply in evidence.unmatched} == {"p1"}


def test_failed_answers_are_kept_apart() -> None:
    """A judged request without an answer is neither compared nor unmatched."""
    evidence = Story().baseline().cycle(warm={"p1": failing()}).evidence()
    assert [reply.answer.prompt for reply in evidence.failed] == ["p1"]
    assert evidence.unmatched == ()
    assert len(evidence.after) == 7


def test_held_out_prompts_are_not_judged_but_controlled() -> None:
    """A held-out prompt meets its one baseline answer in the control only."""
    story = Story().baseline().cycle().control(Control.UNSEEN_PROMPTS)
    assert all(not each.prompt.held_out for each in story.evidence().after)
    [comparison] = story.evidence().control(Control.UNSEEN_PROMPTS)
    assert comparison.prompt.held_out
    assert comparison.reference.start.cache is COLD


def test_controls_are_kept_apart_by_question() -> None:
    """The answers to one control are not mixed with another's."""
    story = (
        Story().baseline().cycle().control(Control.FRESH_SALT, asked=["p0"]).control(Control.RELOAD_WEIGHTS)
    )
    evidence = story.evidence()
    assert len(evidence.control(Control.FRESH_SALT)) == 1
    assert len(evidence.control_replies(Control.RELOAD_WEIGHTS)) == 4
    assert evidence.control(Control.RESET_PREFIX_CACHE) == ()


def test_a_null_pass_after_a_transition_is_judged() -> None:
    """Once something may have happened, a null transition is no measure of noise any more."""
    evidence = Story().baseline().null().cycle().null().evidence()
    assert len(evidence.null_replies) == 8
    assert len(evidence.after_replies) == 16


def test_noise_includes_a_repeated_baseline() -> None:
    """Without a cache the re-hit repeats the first warm pass: a difference between them is noise."""
    evidence = Story(prefix_caching=False).baseline().evidence()
    assert references(evidence.null) == [("rehit", "warm")]
    assert Story(prefix_caching=True).baseline().evidence().null == ()


def test_noise_is_the_null_transition_beside_the_baseline() -> None:
    """A warm null answer comes from the cache and meets the re-hit."""
    assert references(Story().baseline().null().evidence().null) == [("warm", "rehit"), ("cold", "cold")]


def test_missing_answers_are_listed() -> None:
    """A pass that ended without an answer to every prompt is incomplete; held-out prompts are not missed."""
    story = clean_story()
    assert story.evidence().missing == ()
    story.ask(Role.AFTER, WARM, answered=False)
    assert [prompt.id for _, prompt in story.evidence().missing] == ["p0", "p1", "p2", "p3"]


def test_a_control_may_ask_fewer_prompts() -> None:
    """Controls ask about damaged prompts only, so nothing is missing from them."""
    assert clean_story().control(Control.FRESH_SALT, asked=["p0"]).evidence().missing == ()


def test_the_floor_is_exact_when_nothing_differs() -> None:
    """Equal null answers make an exact floor, with a shift of zero."""
    floor = clean_story().evidence().floor
    assert floor is not None
    assert (floor.compared, floor.different, floor.exact, floor.largest_logprob_shift) == (8, 0, True, 0.0)


def test_the_floor_is_unknown_without_a_null_transition() -> None:
    """Noise that was not measured is not assumed to be zero."""
    evidence = Story().baseline().cycle().evidence()
    assert evidence.floor is None


def test_the_floor_is_not_exact_when_an_ending_differs() -> None:
    """Any difference in a null answer, be it the finish reason, is noise."""
    evidence = Story().baseline().null({"p1": updated(finish_reason="stop")}).cycle().evidence()
    assert evidence.floor is not None
    assert (evidence.floor.different, evidence.floor.exact) == (2, False)


def test_the_floor_tells_the_largest_shift() -> None:
    """The floor reports how far a shared token's log-probability moved."""
    evidence = Story().baseline().null({"p1": garbage(5)}).evidence()
    assert evidence.floor is not None
    assert evidence.floor.largest_logprob_shift == 0.0
    assert evidence.floor.different == 2


def test_the_first_transition_is_where_the_first_real_step_begins() -> None:
    """Probes and null transitions leave the engine alone."""
    evidence = clean_story().evidence()
    assert evidence.transitions[0].action == "sleep"
    assert evidence.first_transition == evidence.transitions[0].t
    assert Story().baseline().null().evidence().first_transition == float("inf")


def test_a_reply_under_a_fresh_salt_shares_none() -> None:
    """Only cold passes are kept apart from the cell's own salt."""
    replies = Story().baseline().evidence().baseline_replies
    shares = {reply.start.cache: reply.shares_salt for reply in replies}
    assert shares == {WARM: True, REHIT: True, COLD: False}


def test_requests_that_are_cancelled_leave_noise_what_it_was() -> None:
    """``null, cancel_requests, null``: nothing changed the engine, so nothing is judged as damage."""
    story = Story().baseline().null()
    story.tell(
        step_started(t=story.now(), step="c", action="cancel_requests", options={"name": "r"}, cycle=0)
    )
    evidence = story.null().evidence()
    assert evidence.transitions == ()
    assert evidence.after_replies == ()
    assert len({reply.start.number for reply in evidence.null_replies}) == 4
    assert not story.judged().findings


def test_noise_of_one_adapter_is_measured_after_another_was_loaded() -> None:
    """A second adapter changes neither the base model's answers nor those of the first."""
    story = Story().asking(reference="base").baseline()
    story.load_adapter("x").asking("x", reference="first").baseline()
    story.load_adapter("y").asking("x", reference="first").null()
    assert {each.start.reference for each in story.evidence().null_replies} == {"first"}
    story.asking(reference="base").null()
    assert {each.start.reference for each in story.evidence().null_replies} == {"first", "base"}


def test_noise_of_an_adapter_is_not_measured_after_it_was_exchanged() -> None:
    """What has the same name is another adapter, and its answers are judged."""
    story = Story().asking(reference="base").baseline()
    story.load_adapter("x").asking("x", reference="first").baseline()
    story.load_adapter("x").asking("x", reference="first").null()
    evidence = story.evidence()
    assert evidence.null_replies == ()
    assert {each.start.reference for each in evidence.after_replies} == {"first"}
