"""A guard on a real engine in its user's process."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check.result import Cause, Verdict
from tests.benchmarks.guards import Guarded, run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SOUND = ("level1", "reloaded", "transferred", "level1")
CLEAN = (Verdict.CLEAN, None)
LOST = (Verdict.CORRUPT, Cause.LOST_WEIGHTS)


def said(guarded: Guarded, out: Path) -> list[tuple[str, str | None]]:
    """The verdict and the cause of each check, of an engine in a process of its own."""
    return [(check["verdict"], check["cause"]) for check in run(guarded, out)[1:]]


@pytest.mark.parametrize("kind", ["LLM", "AsyncLLM"])
def test_a_sound_engine_is_clean_until_its_weights_are_lost(tmp_path: Path, kind: str) -> None:
    """Level 1, level 2 with a reload, and without one, in an engine that computes in another process."""
    guarded = Guarded(kind=kind, cycles=(*SOUND, "partial", "reloaded", "bare"))
    assert said(guarded, tmp_path) == [CLEAN, CLEAN, CLEAN, CLEAN, LOST, CLEAN, LOST]


def test_the_founding_bug_is_found_in_process(tmp_path: Path) -> None:
    """A prefix cache that outlives its blocks, in an engine that computes in its user's process."""
    guarded = Guarded(multiprocessing=False, fault="keep-prefix-cache", cycles=("level1", "level1"))
    assert said(guarded, tmp_path) == [(Verdict.CORRUPT, Cause.STALE_PREFIX_CACHE)] * 2
