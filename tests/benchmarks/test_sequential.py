"""What the benchmark of early endings makes of a history."""

from __future__ import annotations

import pytest

from harness.check.result import Cause, Verdict
from harness.history.events import CellFinished, CellShortened, Event
from harness.history.observations import StepFinished, StepStarted
from harness.history.passes import Control
from tests.benchmarks.sequential import CYCLES, compare, ended_after_each_cycle, repeating_cell
from tests.check.stories import Story, garbage

ALL = dict.fromkeys(("p0", "p1", "p2", "p3"), garbage(0))


def stale(*, since: int) -> list[Event]:
    """Cycles in which cached reads are damaged since one of them, where the control questions are asked."""
    story = Story().baseline().null()
    for cycle in range(1, CYCLES + 1):
        story.sleep(keeps_cache=True).wake().probe(cycle, warm=ALL if cycle >= since else {})
        if cycle == since:
            story.control(Control.FRESH_SALT).control(Control.RESET_PREFIX_CACHE)
        step = next(event.step for event in reversed(story.events) if isinstance(event, StepStarted))
        story.tell(StepFinished(t=story.now(), step=step, seconds=1))
    return [*story.events, CellFinished(t=story.now())]


@pytest.mark.parametrize(("since", "ends_after"), [(1, 1), (2, 2), (3, None), (4, None)])
def test_a_history_ends_where_its_verdict_is_certain(since: int, ends_after: int | None) -> None:
    """At the end of the first cycle that is damaged, unless that is the last or none is."""
    compared = compare("x", stale(since=since))
    assert compared.cycle == ends_after
    assert compared.same
    if ends_after is not None:
        assert compared.early is not None
        assert (compared.early.verdict, compared.early.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)


def test_each_cycle_but_the_last_may_be_the_end() -> None:
    """What was recorded up to it, what is left out, and an end."""
    history = stale(since=1)
    prefixes = list(ended_after_each_cycle(history))
    assert len(prefixes) == CYCLES - 1
    for prefix in prefixes:
        shortened, finished = prefix[-2:]
        assert prefix[:-2] == history[: len(prefix) - 2]
        assert isinstance(shortened, CellShortened)
        assert isinstance(finished, CellFinished)
        assert shortened.skipped


def test_every_cycle_is_probed() -> None:
    """The script that faults are taken through asks in each cycle what it asks in any."""
    cell = repeating_cell()
    assert len(cell.prompts) == cell.scenario.prompts.count
    assert {"repeat", "steps"} <= cell.scenario.script[-1].model_fields_set
