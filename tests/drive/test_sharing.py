"""Cells that follow each other on one server, against the fake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from harness.check import judge
from harness.check.handover import judge_handover
from harness.check.result import Cause, Verdict
from harness.drive.cell import EarlyLooks
from harness.drive.executors import run_on_shared
from harness.drive.job import CellJob
from harness.drive.recorder import Watcher
from harness.drive.sharing import Judges, SeenAgain, SharedServers, by_server, can_share
from harness.history.events import ServerLeftDamaged
from harness.history.layout import earlier_histories
from harness.history.passes import Role
from harness.history.recording import Recording, load_history, load_recording
from harness.scenario.cells import load_cells
from harness.scenario.schema import Arm
from harness.servers.base import RuntimeName
from tests.drive.conftest import SCENARIOS, Driver
from tests.fake_vllm.in_process import InProcessRuntime

pytestmark = pytest.mark.anyio

CELLS = ("on", "off", "again")
"""The first and the last want the same server."""


def jobs_of(
    driver: Driver, *, fault: str | None = None, script: str = "", misbehave: str = ""
) -> list[CellJob]:
    """The cells."""
    jobs = []
    for name in CELLS:
        cell = driver.cell("off" if name == "off" else "on", script=script)
        # Slow enough that requests in flight meet the transition they are sent for.
        slow = "slow:20" if script and not misbehave else misbehave
        job = driver.job(cell, fault=fault, env={"FAKE_VLLM": slow})
        jobs.append(
            replace(job, cell=replace(job.cell, arm_name=name), directory=driver.folder / "out" / name)
        )
    return jobs


async def run(
    driver: Driver,
    jobs: list[CellJob],
    *,
    is_clean: Callable[[Path], bool],
    told: Callable[[CellJob, ServerLeftDamaged], None] = lambda *_: None,
) -> tuple[list[str], dict[str, Recording]]:
    """Run cells; return for which of them a server was booted, and what was recorded."""
    runtime = driver.runtime
    assert isinstance(runtime, InProcessRuntime)
    ordered = by_server(jobs)

    def watcher_of(job: CellJob) -> Watcher:
        return lambda event: told(job, event) if isinstance(event, ServerLeftDamaged) else None

    judges = Judges(is_clean=is_clean, sees_again=sees_again)
    async with SharedServers(runtime, ordered, judges=judges, watcher_of=watcher_of) as servers:
        for job in ordered:
            await run_on_shared(job, servers, watcher=lambda _: None, looks=EarlyLooks())
    assert runtime.running == {}
    booted = [cell.rpartition(".")[2] for cell in runtime.booted]
    return booted, {job.cell.id: load_recording(job.directory) for job in jobs}


def sees_again(fresh: Path, later: Path) -> SeenAgain:
    """As the workflow does."""
    seen = judge_handover(load_recording(fresh), load_recording(later))
    return SeenAgain(whole=seen.whole, damaged=seen.damaged, because=seen.because)


def really(folder: Path) -> bool:
    """As the workflow judges, but for how quickly the machine was."""
    result = judge(replace(load_recording(folder), finished=True))
    return result.verdict not in {Verdict.CORRUPT, Verdict.INCONCLUSIVE, None}


def answers(recording: Recording) -> set[tuple[str, tuple[int, ...]]]:
    """What was answered after the transitions."""
    return {
        (a.prompt, a.token_ids) for each in recording.passes_of(Role.AFTER) for a in each.answers.values()
    }


@pytest.mark.cell
async def test_healthy_cells_share_a_server(driver: Driver) -> None:
    """The second cell says with whom, has no boot of its own, and the same answers."""
    booted, recorded = await run(driver, jobs_of(driver), is_clean=really)
    first, second = recorded["small.on"], recorded["small.again"]
    assert booted == ["on", "off"]
    assert first.server is not None
    assert second.server is not None
    assert (first.server.shared_with, second.server.shared_with) == ((), ("small.on",))
    assert second.server.command.endswith("# shared with small.on")
    assert second.time_spent.boot == 0
    assert answers(first) == answers(second)
    assert not {judge(first).verdict, judge(second).verdict} & {Verdict.CORRUPT, Verdict.INCONCLUSIVE}


@pytest.mark.cell
async def test_after_a_corrupt_cell_the_next_gets_a_fresh_server(driver: Driver) -> None:
    """Verdicts and causes are those of cells with a server each."""
    booted, recorded = await run(driver, jobs_of(driver, fault="keep-prefix-cache"), is_clean=really)
    assert booted == ["on", "again", "off"]
    results = [judge(recorded[f"small.{name}"]) for name in ("on", "again")]
    assert [result.cause for result in results] == [Cause.STALE_PREFIX_CACHE] * 2


@pytest.mark.cell
async def test_a_damaged_server_is_found_by_the_questions_of_the_next_cell(driver: Driver) -> None:
    """Whatever the verdict overlooked: the next cell begins again on a fresh server."""
    jobs = jobs_of(driver, fault="lose-weights")
    booted, recorded = await run(driver, jobs, is_clean=lambda _: True)
    assert booted == ["on", "again", "off"]
    assert judge(recorded["small.again"]).cause is Cause.LOST_WEIGHTS
    (rejected,) = (load_history(path) for path in earlier_histories(jobs[2].directory))
    assert rejected.failure is not None
    assert rejected.failure.again
    assert not list(rejected.passes_of(Role.AFTER))


ONLY_WARM = """\
- probe: {name: baseline, evidence: [warm]}
- null_transition: {evidence: [warm, cold]}
- sleep: {}
- wake_up: {}
- probe: {name: after, evidence: [warm]}"""
"""After the wake-up every prompt is computed anew: nothing that was cached is read again."""


@pytest.mark.cell
async def test_the_cell_before_is_told_of_the_damage_it_left(driver: Driver) -> None:
    """What its own probes could not see its history holds afterwards: clean becomes corrupt."""
    said: list[tuple[str, str]] = []
    jobs = jobs_of(driver, script=ONLY_WARM, fault="damage-blocks-cached-after-wake")
    booted, recorded = await run(
        driver, jobs, is_clean=really, told=lambda job, told: said.append((job.cell.id, told.next_cell))
    )
    assert booted == ["on", "again", "off"]
    assert said == [("small.on", "small.again")]
    first = recorded["small.on"]
    assert first.left_damaged is not None
    assert judge(first).verdict is Verdict.CORRUPT
    assert judge(recorded["small.again"]).verdict is not Verdict.CORRUPT, "nobody came after it"


def test_cells_that_ask_otherwise_share_no_server(driver: Driver) -> None:
    """Other prompts, lengths or first questions have no answers of a fresh server to be held against."""
    script = "- probe: baseline\n- sleep: {}\n- wake_up: {}\n- probe: after"
    cells = [driver.cell(script=script, more=more) for more in ("", "concurrency: 2", "")]
    jobs = [driver.job(replace(cell, arm_name=str(place))) for place, cell in enumerate(cells)]
    assert [job.cell.arm_name for job in by_server(jobs)] == ["0", "2", "1"]


@pytest.mark.parametrize(
    ("fault", "corrupt"),
    [(None, set()), ("damage-late-tokens", {"prefix-cache-level1", "prefix-cache-level2"})],
)
@pytest.mark.cell
async def test_the_default_run_finds_damage_of_late_tokens(
    driver: Driver, fault: str | None, corrupt: set[str]
) -> None:
    """The first look is too short for it; the cells after it have baselines that never slept."""
    cells = load_cells([SCENARIOS], only_default=True)
    jobs = [
        replace(driver.job(cell, fault=fault), directory=driver.folder / "out" / cell.id) for cell in cells
    ]
    booted, recorded = await run(driver, jobs, is_clean=really)
    results = [judge(recording) for recording in recorded.values()]
    assert [result.error for result in results] == [None] * len(cells)
    assert {result.scenario for result in results if result.verdict is Verdict.CORRUPT} == corrupt
    assert len(booted) == (5 if fault else 3)


@pytest.mark.parametrize(
    ("before", "after", "shared"),
    [("few", "few", True), ("few", None, True), (None, "few", False), (None, None, True)],
)
def test_kinds_are_asked_where_the_cell_before_asked_them_or_on_a_fresh_server(
    driver: Driver, before: Literal["few"] | None, after: Literal["few"] | None, *, shared: bool
) -> None:
    """Nothing else would show that their baseline is that of an engine that never slept."""
    one, _, other = jobs_of(driver)
    asked = [
        replace(job, cell=replace(job.cell, scenario=job.cell.scenario.model_copy(update={"kinds": kinds})))
        for job, kinds in ((one, before), (other, after))
    ]
    assert can_share(*asked) is shared


def test_cells_are_ordered_by_the_server_they_want(driver: Driver) -> None:
    """Those that can share follow each other; the order is otherwise kept."""
    jobs = jobs_of(driver)
    other = replace(jobs[2], cell=replace(jobs[2].cell, arm_name="other", arm=Arm(env={"A": "b"})))
    assert [job.cell.arm_name for job in by_server([*jobs, other])] == ["on", "again", "off", "other"]


def test_a_cell_that_spoils_its_server_comes_last(driver: Driver) -> None:
    """Between two that could share one it would cost a boot; what a cell sees to its end spoils nothing."""
    scripts = {
        "spoils": "- probe: a\n- reload_weights: {weights: missing, must_fail: true}\n- probe: b",
        "pauses": "- probe: a\n- pause: {}\n- resume: {}\n- probe: b",
        "asks-too-soon": "- probe: a\n- sleep: {level: 2}\n- wake_up: {}\n- probe: b",
        "sleeps": "- probe: a\n- sleep: {}\n- wake_up: {}\n- probe: b",
    }
    jobs = [driver.job(replace(driver.cell(script=text), arm_name=name)) for name, text in scripts.items()]
    assert [job.cell.arm_name for job in by_server(jobs)] == ["pauses", "sleeps", "asks-too-soon", "spoils"]


@pytest.mark.parametrize(("runtime", "shared"), [("process", True), ("inprocess", False)])
def test_an_llm_goes_on_to_no_cell_that_needs_more_of_it(
    driver: Driver, runtime: RuntimeName, *, shared: bool
) -> None:
    """Only where engines are held in process does it matter which class a server's engine has."""
    asks = "- probe: a\n- sleep: {}\n- wake_up: {}\n- probe: b"
    pauses = "- probe: a\n- pause: {}\n- resume: {}\n- probe: b"
    jobs = [
        driver.job(replace(driver.cell(script=script), arm_name=str(place)))
        for place, script in enumerate((asks, pauses))
    ]
    held = InProcessRuntime()
    held.name = runtime
    judges = Judges(is_clean=lambda _: True, sees_again=sees_again)
    servers = SharedServers(held, jobs, judges=judges, watcher_of=lambda _: lambda _: None)
    assert servers._suits_the_next(jobs[0]) is shared


@pytest.mark.cell
async def test_cells_with_requests_in_flight_share_a_server(driver: Driver) -> None:
    """Streams that stood still over a sleep and have ended leave nothing behind."""
    script = """\
- probe: {name: baseline, evidence: [warm, rehit]}
- null_transition: {}
- start_requests: {name: held}
- sleep: {level: 0, mode: keep}
- wake_up: {}
- finish_requests: {name: held}
- probe: {name: after, evidence: [warm]}"""
    booted, recorded = await run(driver, jobs_of(driver, script=script), is_clean=really)
    assert booted == ["on", "off"]
    assert judge(recorded["small.again"]).verdict is not Verdict.CORRUPT
