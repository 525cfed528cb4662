"""What overlapping calls may leave behind: what some order of them explains, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from harness.scenario.engine_state import ALL_TAGS, EngineState
from harness.scenario.orders import Fate, Overlapped, states_after
from harness.scenario.steps.base import BaseStep
from harness.scenario.steps.calls import Transition

CALLS: TypeAdapter[Transition] = TypeAdapter(Transition)

WRITTEN: tuple[dict[str, object], ...] = (
    {"sleep": {"level": 0}},
    {"sleep": {"level": 1}},
    {"sleep": {"level": 2}},
    {"wake_up": {}},
    {"wake_up": {"tags": ["weights"]}},
    {"wake_up": {"tags": ["kv_cache", "kv_cache"]}},
    {"pause": {}},
    {"resume": {}},
    {"release_kv_cache_memory": {}},
    {"reload_weights": {"weights": "other"}},
    {"reload_weights": {"weights": "own"}},
    {"load_adapter": {"name": "x", "adapter": "first"}},
    {"load_adapter": {"name": "x", "adapter": "second", "in_place": True}},
    {"unload_adapter": {"name": "x"}},
    {"reset_prefix_cache": {}},
)


def step(written: object) -> BaseStep:
    """A call as a scenario writes it."""
    return CALLS.validate_python(written)


def done(*written: object) -> list[Overlapped]:
    """Calls that were all in flight at once and were answered with 200."""
    return [Overlapped(step=step(each), fate=Fate.DONE) for each in written]


STEPS = st.lists(st.sampled_from(WRITTEN).map(step), min_size=1, max_size=4)
MOMENTS = st.integers(0, 6)


@st.composite
def timed(draw: st.DrawFn) -> list[Overlapped]:
    """Calls that were answered with 200, each some time after it was made."""
    calls = []
    for each in draw(STEPS):
        made = draw(MOMENTS)
        answered = made + draw(st.integers(1, 4))
        calls.append(Overlapped(step=each, fate=Fate.DONE, made=made, answered=answered))
    return calls


def one_after_the_other(steps: Sequence[BaseStep]) -> EngineState:
    """What steps leave behind that are carried out in this order."""
    return reduce(lambda engine, each: each.changed(engine), steps, EngineState())


def same(found: Sequence[EngineState], expected: Sequence[EngineState]) -> bool:
    """Whether both have the same states in them, in whatever order."""
    return all(each in expected for each in found) and all(each in found for each in expected)


@given(STEPS)
def test_every_order_of_calls_that_all_overlapped_is_explained_and_nothing_else(
    steps: list[BaseStep],
) -> None:
    """The states are those of all permutations, each told once."""
    found = states_after([EngineState()], [Overlapped(step=each, fate=Fate.DONE) for each in steps])
    assert same(found, [one_after_the_other(order) for order in permutations(steps)])
    assert all(each not in found[:number] for number, each in enumerate(found))


@given(timed())
def test_no_order_may_have_a_call_before_one_that_was_over_when_it_was_made(
    calls: list[Overlapped],
) -> None:
    """Only permutations that agree with the clock count."""
    orders = [
        order
        for order in permutations(calls)
        if not any(
            later.answered < earlier.made
            for place, earlier in enumerate(order)
            for later in order[place + 1 :]
        )
    ]
    expected = [one_after_the_other([each.step for each in order]) for order in orders]
    assert same(states_after([EngineState()], calls), expected)


@given(STEPS)
def test_calls_that_follow_each_other_leave_one_state(steps: list[BaseStep]) -> None:
    """Without any overlap the order is that of the clock, and the model's own word is all there is."""
    calls = [
        Overlapped(step=each, fate=Fate.DONE, made=2.0 * number, answered=2.0 * number + 1)
        for number, each in enumerate(steps)
    ]
    assert states_after([EngineState()], calls) == (one_after_the_other(steps),)


@given(STEPS, st.sampled_from(WRITTEN).map(step))
def test_a_call_that_nobody_heard_of_happened_or_did_not(steps: list[BaseStep], unheard: BaseStep) -> None:
    """What is explained is all that is explained with it and all that is explained without it."""
    heard = [Overlapped(step=each, fate=Fate.DONE) for each in steps]
    open_one = Overlapped(step=unheard, fate=Fate.OPEN)
    with_it = states_after([EngineState()], [*heard, open_one], open_ones_happen=True)
    without = states_after([EngineState()], heard)
    assert same(states_after([EngineState()], [*heard, open_one]), [*with_it, *without])
    happened = states_after([EngineState()], [*heard, Overlapped(step=unheard, fate=Fate.DONE)])
    assert all(each in with_it for each in happened)


@given(STEPS, st.sampled_from(WRITTEN).map(step))
def test_a_refused_call_changes_nothing(steps: list[BaseStep], refused: BaseStep) -> None:
    """Where the engine may be believed, what is explained is what the other calls explain."""
    heard = [Overlapped(step=each, fate=Fate.DONE) for each in steps]
    found = states_after([EngineState()], [*heard, Overlapped(step=refused, fate=Fate.REFUSED, excused=True)])
    assert same(found, states_after([EngineState()], heard))


def test_a_wake_up_beside_a_sleep_leaves_it_asleep_or_awake_and_nothing_between() -> None:
    """Memory that sleeps under a scheduler that works is no order's doing."""
    found = states_after([EngineState()], done({"sleep": {"level": 1}}, {"wake_up": {}}))
    assert sorted((each.paused, each.asleep == ALL_TAGS) for each in found) == [(False, False), (True, True)]


def test_a_refusal_is_explained_where_the_call_may_be_refused() -> None:
    """Memory is released in a pause alone: a refusal beside a resume has an order, beside a reset none."""
    release = Overlapped(step=step({"release_kv_cache_memory": {}}), fate=Fate.REFUSED)
    paused = [EngineState(paused=True)]
    assert states_after(paused, [release, *done({"resume": {}})]) == (EngineState(),)
    assert states_after(paused, [release, *done({"reset_prefix_cache": {}})]) == ()


def test_what_is_not_made_yet_may_be_refused_given_up_or_carried_out() -> None:
    """A script is held against all that may come of it."""
    given_up = step({"sleep": {"level": 2, "abandon": {"after": 1}}})
    assert [each.weights_lost for each in given_up.outcomes(EngineState())] == [True, False]
    must_fail = Overlapped(step=step({"pause": {"must_fail": True}}), fate=Fate.UNTOLD)
    assert states_after([EngineState()], [must_fail]) == (EngineState(),)
    twice = [
        Overlapped(step=step({"load_adapter": {"name": "x", "adapter": each}}), fate=Fate.UNTOLD)
        for each in ("first", "second")
    ]
    found = states_after([EngineState()], twice)
    assert {each.adapters["x"] for each in found} == {"first", "second"}
