"""Cells whose damage has a cause that is easily mistaken for another."""

from __future__ import annotations

import pytest

from harness.check import judge
from harness.check.result import Cause, Verdict
from harness.history.passes import Control, Role
from tests.drive.conftest import Driver

pytestmark = pytest.mark.anyio


@pytest.mark.cell
@pytest.mark.parametrize("one_in", range(6, 10))
async def test_damage_that_comes_and_goes_is_called_so(driver: Driver, one_in: int) -> None:
    """A request now and then is answered wrongly: no control is said to have healed it."""
    recording = await driver.run(misbehave=f"garbage-now-and-then:{one_in}")
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.INTERMITTENT), result.reason
    assert "right when asked again as they had been" in result.reason


@pytest.mark.cell
async def test_salts_that_no_longer_separate_leave_a_stale_prefix_cache(driver: Driver) -> None:
    """Blank blocks are read under any salt: only forgetting them heals."""
    recording = await driver.run(misbehave="mix-salts-after-wake")
    result = judge(recording)
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE), result.reason
    assert "a cache salt no longer keeps prompts apart" in result.reason
    asked = [each.start.control for each in recording.passes_of(Role.CONTROL)]
    assert Control.RELOAD_WEIGHTS not in asked, "everything was right by then"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [("lose-buffers", Cause.LOST_BUFFERS), ("round-keys-and-values", Cause.KV_CACHE)],
)
@pytest.mark.cell
async def test_what_buffers_tell_decides(driver: Driver, fault: str, cause: Cause) -> None:
    """Neither is healed by anything; the checksums of buffers tell one from the other."""
    result = judge(await driver.run(fault=fault))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, cause), result.reason


@pytest.mark.cell
async def test_two_causes_are_both_named(driver: Driver) -> None:
    """Blocks outlive the sleep, and the weights do not."""
    result = judge(await driver.run(fault="lose-weights,keep-prefix-cache"))
    assert (result.verdict, result.cause) == (Verdict.CORRUPT, Cause.LOST_WEIGHTS), result.reason
    assert result.other_causes == (Cause.STALE_PREFIX_CACHE,), result.reason


async def test_an_engine_without_weights_from_the_start_is_never_clean(driver: Driver) -> None:
    """It answers every prompt alike before and after."""
    result = judge(await driver.run(misbehave="no-weights"))
    assert (result.verdict, result.cause) == (Verdict.INCONCLUSIVE, None), result.reason
    assert "the baseline itself is broken" in result.reason
