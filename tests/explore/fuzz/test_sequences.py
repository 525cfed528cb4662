"""Drawn moves become legal scripts, whatever is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.explore.fuzz.findings import Failure, gists, signature
from harness.explore.fuzz.in_words import words
from harness.explore.fuzz.moves import LEGAL_MOVES, OVERLAPPING_MOVES, SAFE_MOVES, Modifier, Move
from harness.explore.fuzz.scenario import WHOLE, base_scenario, scenario_of
from harness.explore.fuzz.sequences import carried_out, counts, setup_for
from harness.scenario.coherence import mistakes
from harness.scenario.schema import Scenario
from harness.scenario.script import Step
from harness.scenario.steps.asking import Probe
from harness.scenario.steps.caches import ResetPrefixCache
from harness.scenario.steps.concurrently import Concurrently
from harness.scenario.steps.lifecycle import Sleep
from harness.scenario.steps.loading import ReloadWeights
from tests.trying import tries

FAILURE = Failure(kind="wrong answers", cause="stale prefix cache")

drawn = st.lists(st.sampled_from(LEGAL_MOVES), max_size=8)
overlapping = st.lists(
    st.one_of(st.sampled_from(LEGAL_MOVES), st.sampled_from(OVERLAPPING_MOVES[len(LEGAL_MOVES) :])),
    max_size=10,
)
safely_drawn = st.lists(st.sampled_from(SAFE_MOVES), min_size=1, max_size=6)


def move(*told: str) -> list[Move]:
    """The moves that read so."""
    by_words = {words(step): (step,) for (step,) in LEGAL_MOVES}
    return [by_words[each] for each in told]


def read(steps: tuple[Step, ...]) -> list[str]:
    """Steps in words."""
    return [words(step) for step in steps]


@given(drawn)
def test_every_drawn_list_is_a_valid_scenario_or_nothing(moves: list[Move]) -> None:
    """It loads like a file does: what is started ends, every baseline exists, the last step is a probe."""
    steps = carried_out(moves)
    if steps:
        found = scenario_of(steps, signature(FAILURE, steps), WHOLE)
        tree = found.model_dump(mode="json", exclude_defaults=True)
        assert Scenario.model_validate(tree) == found
        assert isinstance(steps[-1], Probe)


@given(drawn)
def test_a_script_without_calls_is_no_script(moves: list[Move]) -> None:
    """Asking alone puts nothing to the test."""
    steps = carried_out(moves)
    assert not steps or any(counts(step) for step in steps)


@given(drawn, st.data())
def test_a_script_drawn_again_is_itself(moves: list[Move], data: st.DataObject) -> None:
    """The same moves give the same script, which is not much longer than they are."""
    steps = carried_out(moves)
    assert carried_out(moves) == steps
    shorter = carried_out(moves[: data.draw(st.integers(0, len(moves)))])
    body = [step for step in shorter if not isinstance(step, Probe)]
    assert len(body) <= len(moves) + 3


@given(safely_drawn)
def test_safe_scripts_reset_the_cache_after_every_change_of_weights(moves: list[Move]) -> None:
    """Nothing is asked between weights that are loaded and the reset that has to follow."""
    steps = carried_out(moves)
    for number, step in enumerate(steps):
        if isinstance(step, ReloadWeights) and not _recovers(steps[:number]):
            assert isinstance(steps[number + 1], ResetPrefixCache)


def _recovers(before: tuple[Step, ...]) -> bool:
    """Whether the reload that follows belongs to the recovery from level 2."""
    return len(before) > 1 and isinstance(before[-2], Sleep)


@pytest.mark.parametrize("each", SAFE_MOVES)
def test_every_safe_move_is_legal_by_itself(each: tuple[Step, ...]) -> None:
    """None is left out because the model refuses one of its steps."""
    steps = carried_out([each])
    assert [type(step) for step in steps[: len(each)]] == [type(step) for step in each] or not any(
        map(counts, each)
    )


@pytest.mark.parametrize("each", LEGAL_MOVES)
def test_every_call_can_be_drawn(each: Move) -> None:
    """There is a way to every call: none is illegal everywhere."""
    ways = [
        [],
        move("sleep level=1"),
        move("pause"),
        move("start_requests name=held"),
        move("load_adapter name=tuned adapter=first"),
    ]
    assert any(
        type(each[0]) in [type(step) for step in carried_out([*way, each, *move("sleep level=1")])]
        for way in ways
    )


def test_an_engine_is_brought_back_before_it_is_asked() -> None:
    """The script wakes what it put to sleep and resumes what it paused."""
    assert read(carried_out(move("sleep level=1"))) == ["sleep level=1", "wake_up", "probe name=after-1"]
    assert read(carried_out(move("pause")))[1] == "resume"


def test_a_sleeper_is_not_asked() -> None:
    """A probe of an engine that rests would only wait for its deadline."""
    asked = carried_out(move("sleep level=1", "probe name=after", "wake_up", "probe name=after"))
    assert read(asked) == ["sleep level=1", "wake_up", "probe name=after-1"]


@pytest.mark.parametrize(
    ("sleep", "expected"),
    [("sleep level=1", "aborted"), ("sleep level=1 mode=keep", "same"), ("sleep level=1 mode=wait", "same")],
)
def test_what_becomes_of_requests_is_expected(sleep: str, expected: str) -> None:
    """A sleep that aborts ends them; any other leaves their answers alone."""
    steps = carried_out(move("start_requests name=held", sleep))
    finish = next(step for step in read(steps) if step.startswith("finish"))
    assert ("expect=" + expected if expected != "same" else "finish_requests name=held") in finish


@pytest.mark.parametrize("sleep", ["sleep level=1", "sleep level=1 mode=keep"])
def test_requests_to_other_weights_may_answer_anything(sleep: str) -> None:
    """The first baseline is of the model's own weights: theirs are not to be held against it."""
    steps = carried_out(move("reload_weights weights=other", "start_requests name=held", sleep))
    finish = next(step for step in read(steps) if step.startswith("finish"))
    assert "expect=ended" in finish


def test_requests_ask_the_adapter_that_is_loaded() -> None:
    """They must be answered as its baseline was, whatever the engine does meanwhile."""
    steps = read(carried_out(move("load_adapter name=tuned adapter=second", "start_requests name=held")))
    assert "start_requests name=held adapter=tuned same_as=second-adapter" in steps
    assert "finish_requests name=held" in steps


@pytest.mark.parametrize(
    "exchange", ["unload_adapter name=tuned", "load_adapter name=tuned adapter=second in_place=True"]
)
@pytest.mark.parametrize("adapted", [True, False])
def test_an_exchanged_adapter_leaves_open_what_its_requests_are_answered(
    exchange: str, *, adapted: bool
) -> None:
    """It is half the old one's and half the new one's; requests to the base model are not touched."""
    load = move("load_adapter name=tuned adapter=first")
    start = move("start_requests name=held")
    steps = read(carried_out([*(load + start if adapted else start + load), *move(exchange)]))
    assert ("finish_requests name=held expect=ended" in steps) is adapted
    assert ("finish_requests name=held" in steps) is not adapted


def test_a_baseline_is_taken_once() -> None:
    """An engine that has it already only needs what is missing."""
    steps = carried_out(
        move("reload_weights weights=other", "reset_prefix_cache", "load_adapter name=tuned adapter=first")
    )
    whole = read(setup_for(steps))
    rest = read(setup_for(steps, taken=("baseline", "other-weights")))
    assert whole[-len(rest) :] == rest
    assert not any("other" in each for each in rest)
    assert setup_for(steps, taken=("other-weights", "first-adapter")) == ()


def test_answers_are_expected_of_what_is_loaded() -> None:
    """Other weights and adapters have baselines of their own, taken before."""
    steps = carried_out(move("reload_weights weights=other"))
    assert read(steps)[-1] == "probe name=after-1 same_as=other-weights"
    assert [type(step).__name__ for step in setup_for(steps)].count("Probe") == 2
    adapted = carried_out(move("load_adapter name=tuned adapter=second"))
    assert read(adapted)[-1] == "probe name=after-1 adapter=tuned same_as=second-adapter"


def test_the_search_begins_with_every_baseline_it_may_need() -> None:
    """Safe sequences know no adapters, and so need none of theirs."""
    names = [step.probe.name for step in base_scenario(LEGAL_MOVES).script if isinstance(step, Probe)]
    assert names == ["baseline", "other-weights", "first-adapter", "second-adapter", "before"]
    safe = [step.probe.name for step in base_scenario(SAFE_MOVES).script if isinstance(step, Probe)]
    assert safe == ["baseline", "other-weights", "before"]


def test_a_longer_sequence_with_the_same_calls_in_order_is_known() -> None:
    """More calls between or around them change nothing; another failure or another order does."""
    known = signature(FAILURE, carried_out(move("sleep level=0", "sleep level=1")))
    longer = carried_out(
        move("reset_prefix_cache", "sleep level=0", "sleep level=1 mode=keep", "wake_up", "pause")
    )
    assert gists(longer)[1:3] == ("sleep level=0", "sleep level=1")
    assert known.explains(FAILURE, longer)
    assert not known.explains(Failure(kind="wrong answers", cause="lost weights"), longer)
    assert not known.explains(FAILURE, carried_out(move("sleep level=1", "sleep level=0")))


@tries(60)
@given(overlapping)
def test_whatever_overlaps_is_a_scenario_that_loads(moves: list[Move]) -> None:
    """Every step fits all that the engine may be like after calls that overlapped or were given up."""
    steps = carried_out(moves)
    if steps:
        found = scenario_of(steps, signature(FAILURE, steps), WHOLE)
        tree = found.model_dump(mode="json", exclude_defaults=True)
        assert Scenario.model_validate(tree) == found
        assert [mistake.message for mistake in mistakes(found.script)] == []
        assert isinstance(steps[-1], Probe)


@tries(60)
@given(overlapping)
def test_without_modifiers_calls_are_made_one_after_the_other(moves: list[Move]) -> None:
    """Leaving them out is what shrinks the overlap away."""
    plain = [move for move in moves if not any(isinstance(step, Modifier) for step in move)]
    assert not any(isinstance(step, Concurrently) or step.abandoned for step in carried_out(plain))


def modified(*told: str | Modifier) -> list[Move]:
    """Moves that read so, with modifiers before those that they are about."""
    return [each for one in told for each in ([(one,)] if isinstance(one, Modifier) else move(one))]


def test_a_modifier_is_about_the_call_behind_it() -> None:
    """Two calls become one step, a third joins them, and the engine is woken whatever their order was."""
    steps = modified("sleep level=1", Modifier.TOGETHER, "pause", Modifier.TOGETHER, "resume")
    assert read(carried_out(steps))[:2] == ["sleep level=1 beside pause beside resume", "wake_up"]
    pending = modified("start_requests name=held", "pause mode=wait", Modifier.WHILE_PENDING, "resume")
    assert read(carried_out(pending))[1] == "pause mode=wait beside resume begins=while_pending:pause"
    left = modified(Modifier.GIVEN_UP, "sleep level=1")
    assert read(carried_out(left))[0] == "sleep level=1 abandon=after:0.2"


def test_weights_that_may_be_any_are_loaded_before_they_are_asked() -> None:
    """Which of two reloads came last nobody knows, so the next probe would accuse a healthy engine."""
    steps = modified("reload_weights weights=other", Modifier.TOGETHER, "reload_weights")
    assert read(carried_out(steps))[-3:] == ["reload_weights", "reset_prefix_cache", "probe name=after-1"]


def test_the_same_calls_at_once_are_one_finding_whatever_they_were_told() -> None:
    """Levels, tags and moments differ; what raced is the same."""
    one = carried_out(modified("sleep level=1", Modifier.TOGETHER, "wake_up"))
    other = carried_out(modified("sleep level=0 mode=keep", Modifier.TOGETHER, "wake_up"))
    assert gists(one) == gists(other) == ("sleep beside wake_up", "wake_up")
