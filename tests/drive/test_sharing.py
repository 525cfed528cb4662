"""Cells that follow each other on one server, against the fake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.drive.cell import CellJob, run_cell
from harness.drive.sharing import CANARY_TOKENS, ROUNDING, SharedServers, by_server, comes_again
from harness.history.events import Role
from harness.history.recording import Recording, load_recording
from harness.scenario.schema import Arm, Deadlines
from harness.servers.base import Server, ServerSpec
from harness.servers.process.runtime import ProcessRuntime
from harness.vllm_api.generation import Generation
from tests.check.stories import answer_to, prompt
from tests.drive.conftest import Driver
from tests.drive.test_killed import engines_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

CELLS = ("on", "off", "again")
"""The first and the last want the same server."""


class Counting(ProcessRuntime):
    """The process runtime; remembers for which cell it booted."""

    booted: list[str]

    @asynccontextmanager
    async def _start(self, spec: ServerSpec) -> AsyncIterator[Server]:
        self.booted.append(spec.cell.rpartition(".")[2])
        async with super()._start(spec) as server:
            yield server


def jobs_of(driver: Driver, *, fault: str | None = None, script: str = "") -> list[CellJob]:
    """The cells; a slow machine is no finding."""
    patient = Deadlines(boot=60, answer=60, transition=60)
    jobs = []
    for name in CELLS:
        cell = driver.cell("off" if name == "off" else "on", script=script)
        # Slow enough that requests in flight meet the transition they are sent for.
        job = driver.job(cell, fault=fault, env={"FAKE_VLLM": "slow:20"} if script else {})
        scenario = job.cell.scenario.model_copy(update={"deadlines": patient})
        cell = replace(job.cell, arm_name=name, scenario=scenario)
        jobs.append(replace(job, cell=cell, directory=driver.folder / "out" / name))
    return jobs


async def run(
    driver: Driver, *, is_clean: Callable[[Path], bool], fault: str | None = None, script: str = ""
) -> tuple[list[str], dict[str, Recording]]:
    """Run the cells; return for which of them a server was booted, and what was recorded."""
    runtime = Counting(
        engine_command=driver.engine_command, engine="cpu", cache=driver.folder / "cache", stop_grace_s=2.0
    )
    runtime.booted = []
    jobs = by_server(jobs_of(driver, fault=fault, script=script))
    async with SharedServers(runtime, jobs, is_clean=is_clean) as servers:
        for job in jobs:
            await run_cell(job, servers, watcher=lambda _: None)
    assert engines_of(driver.model.parent) == []
    return runtime.booted, {name: load_recording(driver.folder / "out" / name) for name in CELLS}


def really(folder: Path) -> bool:
    """As the workflow judges, but for how quickly the machine was."""
    result = judge(replace(load_recording(folder), finished=True))
    return result.verdict not in {Verdict.CORRUPT, Verdict.INCONCLUSIVE, None}


def answers(recording: Recording) -> set[tuple[str, tuple[int, ...]]]:
    """What was answered after the transitions."""
    return {
        (a.prompt, a.token_ids) for each in recording.passes_of(Role.AFTER) for a in each.answers.values()
    }


async def test_healthy_cells_share_a_server(driver: Driver) -> None:
    """The second cell says with whom, has no boot of its own, and the same answers."""
    booted, recorded = await run(driver, is_clean=really)
    first, second = recorded["on"], recorded["again"]
    assert booted == ["on", "off"]
    assert first.server is not None
    assert second.server is not None
    assert (first.server.shared_with, second.server.shared_with) == ((), ("small.on",))
    assert second.server.command.endswith("# shared with small.on")
    assert second.time_spent.boot == 0
    assert answers(first) == answers(second)
    assert not {judge(first).verdict, judge(second).verdict} & {Verdict.CORRUPT, Verdict.INCONCLUSIVE}


async def test_after_a_corrupt_cell_the_next_gets_a_fresh_server(driver: Driver) -> None:
    """Verdicts and causes are those of cells with a server each."""
    booted, recorded = await run(driver, is_clean=really, fault="keep-prefix-cache")
    assert booted == ["on", "again", "off"]
    results = [judge(recorded[name]) for name in ("on", "again")]
    assert [result.cause for result in results] == [Cause.STALE_PREFIX_CACHE] * 2


async def test_the_canary_alone_finds_a_damaged_server(driver: Driver) -> None:
    """Whatever the verdict overlooked: an engine that lost its weights is not handed on."""
    booted, recorded = await run(driver, is_clean=lambda _: True, fault="lose-weights")
    assert booted == ["on", "again", "off"]
    assert judge(recorded["again"]).cause is Cause.LOST_WEIGHTS


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
    booted, recorded = await run(driver, is_clean=really, script=script)
    assert booted == ["on", "off"]
    assert judge(recorded["again"]).verdict is not Verdict.CORRUPT


@pytest.mark.parametrize(
    ("shift", "same"), [(0.0, True), (0.9 * ROUNDING, True), (1.1 * ROUNDING, False), (float("nan"), False)]
)
def test_a_canary_may_round_differently(*, shift: float, same: bool) -> None:
    """Requests fall into other batches: the last bits of log-probabilities say nothing, tokens do."""
    before = answer_to(prompt(0), max_tokens=8)
    assert before.logprobs is not None
    now = Generation(
        seconds=1.0,
        token_ids=before.token_ids,
        finish_reason=before.finish_reason,
        chosen_logprobs=before.logprobs.chosen + np.float32(shift),
    )
    assert comes_again(before, now) is same
    assert not comes_again(before, replace(now, token_ids=(*before.token_ids[:-1], 1)))
    assert not comes_again(before, replace(now, finish_reason="abort"))
    assert not comes_again(None, now)


def test_a_canary_asks_for_the_beginning_of_a_longer_answer() -> None:
    """Its tokens as far as it was asked, cut off there; one that ended sooner is not the same."""
    before = answer_to(prompt(0), max_tokens=2 * CANARY_TOKENS)
    assert before.logprobs is not None
    now = Generation(
        seconds=1.0,
        token_ids=before.token_ids[:CANARY_TOKENS],
        finish_reason="length",
        chosen_logprobs=before.logprobs.chosen[:CANARY_TOKENS],
    )
    assert comes_again(before, now)
    assert not comes_again(before, replace(now, finish_reason="stop"))
    shorter = replace(now, token_ids=now.token_ids[:-1], chosen_logprobs=now.chosen_logprobs[:-1])
    assert not comes_again(before, shorter)
