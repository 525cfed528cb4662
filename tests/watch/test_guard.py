"""A whole watch over a fake server that somebody else drives."""

from __future__ import annotations

import random

import anyio
import httpx
import pytest

from harness.check.result import Cause, Verdict
from harness.drive import probing
from harness.errors import ServerError
from harness.history.layout import CELLS_FOLDER
from harness.history.passes import Role
from harness.history.recording import load_recording
from harness.runs.judging import judge_directory
from tests.fake_vllm.behaviours import Fault
from tests.watch.conftest import Watches

pytestmark = [pytest.mark.anyio, pytest.mark.cell]

WAKE_UPS = 20
BUG, LOST = 7, 13
"""Before which wake-up the founding bug is planted, and weights are lost."""


async def test_every_wake_up_is_noticed_and_two_are_alarms(watches: Watches) -> None:
    """Twenty at random: the founding bug before one, weights lost before another, and no other alarm."""
    drawn = random.Random(4)  # noqa: S311 - no secret
    async with watches.serving() as server, watches.over(server) as watched:
        for number in range(1, WAKE_UPS + 1):
            await anyio.sleep(drawn.uniform(0, 20))
            if number == BUG:
                watched.engine.faults.add(Fault.KEEP_PREFIX_CACHE)
            await watched.post("/sleep", level="2" if number == LOST else "1")
            await anyio.sleep(drawn.uniform(0, 3))
            await watched.post("/wake_up")
            if number in {BUG, LOST}:
                await watched.until_judged()
                watched.engine.faults.clear()
                watched.engine.memory.reload_weights(None)
        await watched.until_judged()
    assert watched.status.wake_ups == WAKE_UPS
    alarms = [(result.cause, result.verdict) for _, result in watched.judged if result.verdict != "clean"]
    assert alarms == [(Cause.STALE_PREFIX_CACHE, Verdict.CORRUPT), (Cause.UNKNOWN, Verdict.CORRUPT)]
    assert watched.status.not_ready is None
    judged = judge_directory(watched.directory).result
    assert {cell.cell: cell.verdict for cell in judged.cells} == {
        result.cell: result.verdict for _, result in watched.judged
    }
    assert judged.exit_code == 1


async def test_an_engine_that_falls_asleep_again_is_neither_sound_nor_bad(watches: Watches) -> None:
    """What came in between is no judgement: the check is given up, and made once the engine is awake."""
    async with watches.serving() as server, watches.over(server) as watched:
        watched.engine.scheduler.seconds_a_step = 0.5
        await watched.cycle()
        await watched.until(lambda status: bool(status.pending))
        await anyio.sleep(1)
        await watched.post("/sleep")
        await watched.until(lambda status: status.given_up == 1)
        assert watched.status.not_ready == "the engine rests"
        watched.engine.scheduler.seconds_a_step = 0.0
        await watched.post("/wake_up")
        await watched.until_judged()
    assert [(happened.wake_ups, result.verdict) for happened, result in watched.judged] == [(2, "clean")]
    assert any("the check was given up: the engine rests again" in line for line in watched.said)
    assert watched.status.without_own_check == 1
    assert [cell.cell for cell in judge_directory(watched.directory).result.cells] == watched.cells


async def test_another_process_is_held_to_the_baseline(watches: Watches) -> None:
    """A restarted server must answer as the one before; one with other weights does not."""
    async with watches.serving() as server, watches.over(server) as watched:
        for weights in (1.0, 1.01):
            watched.engine.started += 100
            watched.engine.operations.clear()
            watched.engine.memory.weights["lm_head.weight"] *= weights
            await watched.until_judged()
    assert [(happened.kind, result.verdict) for happened, result in watched.judged] == [
        ("restart", "clean"),
        ("restart", "corrupt"),
    ]


async def test_weights_that_the_server_names_are_a_new_baseline(watches: Watches) -> None:
    """What changes on purpose is not judged, and said to be no judgement; what follows is held against it."""
    async with watches.serving() as server, watches.over(server) as watched:
        watched.engine.memory.weights["lm_head.weight"] *= 1.01
        watched.engine.weight_version = "step-2"
        await watched.until_judged()
        assert any("new weights 'step-2': a new baseline is taken" in line for line in watched.said)
        await watched.cycle()
        await watched.until_judged()
    assert [(happened.kind, result.verdict) for happened, result in watched.judged] == [("wake", "clean")]


async def test_weights_that_change_against_the_rule_are_judged(watches: Watches) -> None:
    """With --rebaseline never the first baseline is what all must answer like."""
    async with watches.serving() as server, watches.over(server, rebaseline="never") as watched:
        watched.engine.memory.weights["lm_head.weight"] *= 1.01
        watched.engine.weight_version = "step-2"
        await watched.until_judged()
    assert [(happened.kind, result.verdict) for happened, result in watched.judged] == [
        ("weights", "corrupt")
    ]


async def test_an_adapter_that_comes_is_checked(watches: Watches) -> None:
    """The base model must answer as before."""
    async with watches.serving() as server, watches.over(server) as watched:
        watched.engine.adapters["tuned"] = next(iter(watched.engine.adapters.values()), None)  # type: ignore[assignment]
        await watched.until_judged()
    assert [(happened.words, result.verdict) for happened, result in watched.judged] == [
        ("adapters added: tuned", "clean")
    ]


async def test_checks_come_no_more_often_than_allowed(watches: Watches) -> None:
    """What is held back is said once, and judged together when its time has come."""
    async with watches.serving() as server, watches.over(server, at_most_every_s=200) as watched:
        for _ in range(3):
            await watched.cycle()
            await anyio.sleep(20)
        await watched.until_judged()
    assert [happened.wake_ups for happened, _ in watched.judged] == [1, 2]
    assert sum("not checked yet" in line for line in watched.said) == 1


async def test_tokens_are_spent_within_their_limit(watches: Watches) -> None:
    """A check that would take more in an hour waits."""
    async with watches.serving() as server, watches.over(server) as measured:
        await measured.cycle()
        await measured.until_judged()
        most = measured.guard._tokens_of_a_check + 1
    async with (
        watches.serving() as server,
        watches.over(server, most_tokens_per_hour=most, every_s=100) as watched,
    ):
        began = anyio.current_time()
        for _ in range(2):
            await watched.cycle()
            await anyio.sleep(200)
            await watched.until_judged()
        assert anyio.current_time() - began > 3000
    assert sum("are allowed in an hour" in line for line in watched.said) == 1


async def test_a_baseline_of_the_same_process_is_taken_over(watches: Watches) -> None:
    """It is not asked again, and what happened meanwhile is held against it at once."""
    async with watches.serving() as server:
        async with watches.over(server) as first:
            await anyio.sleep(1)
        server._engine.memory.weights["lm_head.weight"] *= 1.01
        async with watches.over(server) as second:
            await second.until_judged()
    assert any(line.startswith(f"baseline taken over from {first.directory}") for line in second.said)
    assert [(happened.kind, result.verdict) for happened, result in second.judged] == [
        ("taken-up", "corrupt")
    ]
    assert judge_directory(second.directory).result.verdict == "corrupt"


async def test_only_the_newest_sound_checks_are_kept_and_every_other_one(watches: Watches) -> None:
    """An alarm is never pruned; what is gone is gone from run.json first."""
    async with watches.serving() as server, watches.over(server, keep=2) as watched:
        for number in range(1, 6):
            watched.engine.faults.clear()
            if number == 1:
                watched.engine.faults.add(Fault.KEEP_PREFIX_CACHE)
            await watched.cycle()
            await watched.until_judged()
    assert watched.cells == [f"watch.wake-{number:06}" for number in (1, 4, 5)]
    judged = judge_directory(watched.directory).result
    assert [cell.cell for cell in judged.cells] == watched.cells
    assert judged.false_alarms is not None
    assert judged.false_alarms.cells == 5


async def test_the_engine_is_asked_for_answers_and_nothing_else(watches: Watches) -> None:
    """Neither a baseline nor a check, not even one that finds damage, calls what would change the engine."""
    asked: set[tuple[str, str]] = set()
    async with watches.serving() as server, watches.over(server) as watched:
        ours = watched.guard.connection.http

        async def note(request: httpx.Request) -> None:
            asked.add((request.method, request.url.path))

        ours.event_hooks = {"request": [*ours.event_hooks["request"], note], "response": []}
        watched.engine.faults.add(Fault.KEEP_PREFIX_CACHE)
        await anyio.sleep(1)
        watched.engine.weight_version = "step-2"
        await watched.until_judged()
        drives = {("POST", "/sleep"), ("POST", "/wake_up")}
        await watched.cycle()
        await watched.until_judged()
    assert [result.verdict for _, result in watched.judged] == ["corrupt"]
    assert {path for method, path in asked - drives if method == "POST"} <= {"/tokenize", "/detokenize"}


async def test_what_fails_by_itself_is_no_disturbance(watches: Watches) -> None:
    """It would fail again where nothing came in between, and is raised; else it is given up."""

    async def fails() -> None:
        raise ServerError("the model needs a tokenizer")

    async with watches.serving() as server, watches.over(server) as watched:
        with pytest.raises(ServerError, match="needs a tokenizer"):
            await watched.guard.eye.undisturbed(fails)
        await watched.post("/sleep")
        assert not await watched.guard.eye.undisturbed(fails)


async def test_a_sound_check_asks_no_control_questions(
    watches: Watches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that differ as noise does are worth none: others would pay for them after every wake-up."""
    monkeypatch.setattr(probing, "SUSPICIOUS_SHIFT", -1.0)  # so that every answer looks odd
    async with watches.serving() as server, watches.over(server) as watched:
        await watched.cycle()
        await watched.until_judged()
        watched.engine.faults.add(Fault.KEEP_PREFIX_CACHE)
        await watched.cycle()
        await watched.until_judged()
    controls = [
        len(list(load_recording(watched.directory / CELLS_FOLDER / cell).passes_of(Role.CONTROL)))
        for cell in watched.cells
    ]
    assert [result.verdict for _, result in watched.judged] == ["clean", "corrupt"]
    assert controls[0] == 0
    assert controls[1] > 0
