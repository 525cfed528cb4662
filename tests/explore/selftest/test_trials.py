"""Faults planted and healed while one server runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Cause, CellResult, Verdict
from harness.drive.job import CellJob
from harness.explore.selftest.trials import SWITCHBOARD, run_trials
from harness.history.events import CellFailed, Event, ServerReady
from harness.history.passes import Role
from harness.history.recording import load_recording
from tests.drive.conftest import Driver

pytestmark = [pytest.mark.anyio, pytest.mark.cell]


def trial(shared: CellJob, name: str, fault: str | None, out: Path) -> CellJob:
    """One history to be."""
    return replace(shared, cell=replace(shared.cell, arm_name=name), fault=fault, directory=out / name)


async def results(driver: Driver, *faults: str | None, misbehave: str = "") -> list[CellResult | None]:
    """What becomes of each trial; None where it was not begun."""
    shared = driver.job(driver.cell(), fault=SWITCHBOARD, env={"FAKE_VLLM": misbehave})
    trials = [trial(shared, f"t{i}", fault, driver.folder) for i, fault in enumerate(faults)]
    await run_trials(shared, driver.runtime, trials, watcher_of=lambda _: lambda _: None)
    return [judge(load_recording(each.directory)) if each.directory.exists() else None for each in trials]


async def test_each_fault_is_alone_in_its_history(driver: Driver) -> None:
    """What was planted before is healed: a healthy trial after two faults is clean."""
    found = await results(driver, None, "lose-weights", "keep-prefix-cache", None)

    assert [(each.verdict, each.cause) for each in found if each] == [
        (Verdict.CLEAN, None),
        (Verdict.CORRUPT, Cause.LOST_WEIGHTS),
        (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE),
        (Verdict.CLEAN, None),
    ]
    assert [each.fault for each in found if each] == [None, "lose-weights", "keep-prefix-cache", None]


async def test_trials_share_one_server_and_what_was_asked_before(driver: Driver) -> None:
    """The baseline is recorded once, and every history begins with it."""
    shared = driver.job(driver.cell(), fault=SWITCHBOARD)
    trials = [trial(shared, name, "lose-weights", driver.folder) for name in ("one", "two")]
    seen: list[Event] = []
    await run_trials(shared, driver.runtime, trials, watcher_of=lambda _: seen.append)

    recordings = [load_recording(each.directory) for each in (shared, *trials)]
    baselines = [list(recording.passes_of(Role.BASELINE)) for recording in recordings]
    assert baselines[0] == baselines[1] == baselines[2]
    assert sum(isinstance(event, ServerReady) for event in seen) == 1
    assert [recording.cell.cell for recording in recordings] == ["small.on", "small.one", "small.two"]


async def test_noise_that_is_not_known_yet_is_measured_further(driver: Driver) -> None:
    """The null transition that trials have in common gives passes until noise is known, as in any cell."""
    shared = driver.job(driver.cell(), fault=SWITCHBOARD)
    looks: list[Path] = []

    def known_at_the_third_look(folder: Path) -> bool:
        looks.append(folder)
        return len(looks) == 3

    one = trial(shared, "one", None, driver.folder)
    await run_trials(
        shared,
        driver.runtime,
        [one],
        knows_noise=known_at_the_third_look,
        watcher_of=lambda _: lambda _: None,
    )
    passes = list(load_recording(one.directory).passes_of(Role.NULL))
    assert looks == [shared.directory] * 3
    assert len(passes) == 3 * len({each.start.cache for each in passes})


async def test_a_server_that_dies_ends_the_trial_it_died_in(driver: Driver) -> None:
    """The trial is no verdict, and those after it are not begun."""
    found = await results(driver, None, None, misbehave="die-asleep")

    assert found[0] is not None
    assert (found[0].verdict, found[1]) == (None, None)
    failure = load_recording(driver.folder / "t0").failure
    assert isinstance(failure, CellFailed)
