"""The benchmark of judging measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import judge
from harness.check.result import Verdict
from harness.history.recording import load_recording
from tests.benchmarks import big_history, judging
from tests.benchmarks.big_history import simulate_large, write_history


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small history of the same kind."""
    recording = simulate_large(prompts=12, tokens=24, cycles=1)
    return write_history(recording, tmp_path).parent


def test_the_history_is_of_a_healthy_noisy_engine_whose_answers_run_to_the_limit(folder: Path) -> None:
    """Judging it takes the long way: answers differ, and noise has to explain it."""
    recording = load_recording(folder)
    lengths = {len(answer.token_ids) for each in recording.passes for answer in each.answers.values()}
    result = judge(recording)

    assert lengths == {24}
    assert result.verdict is Verdict.CLEAN
    assert result.noise is not None
    assert result.noise.reworded > 0


def test_the_default_size_is_ten_thousand_answers() -> None:
    """What is printed is measured on as many answers as the limits are stated for."""
    passes = 3 + 2 * big_history.NULL_PASSES + 2 * big_history.CYCLES
    assert passes * big_history.PROMPTS >= 10_000
    assert big_history.TOKENS == 256


@pytest.mark.parametrize("work", ["judge", "parse"])
@pytest.mark.cell
def test_work_is_measured_in_a_process_of_its_own(folder: Path, work: str) -> None:
    """Time and memory are those of one process that does nothing else."""
    measured = judging.measure(work, folder, runs=1)

    assert measured.seconds > 0
    assert measured.peak_mib > 1
